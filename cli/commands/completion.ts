/**
 * `exmix completion`: prints the script that makes a shell complete exmix's commands, flags and values. The script calls
 * `exmix --complete WORDS`, the words up to the cursor, and offers what that prints, one candidate a line; if that is nothing, files.
 */
import { basename } from 'node:path';
import { standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** Each calls the command as it was typed, so that it completes for the exmix that runs. */
const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `# exmix completion for bash: add to ~/.bashrc: source <(exmix completion bash)
_exmix() {
  local IFS=$'\\n'
  COMPREPLY=($("$1" --complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _exmix exmix
`,
  zsh: `#compdef exmix
# exmix completion for zsh: add to ~/.zshrc: source <(exmix completion zsh)
_exmix() {
  local -a candidates
  candidates=("\${(@f)$("\${words[1]}" --complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "\${candidates[1]}" ]]; then compadd -- "\${candidates[@]}"; else _files; fi
}
compdef _exmix exmix
`,
  fish: `# exmix completion for fish: exmix completion fish > ~/.config/fish/completions/exmix.fish
complete -c exmix -a '(exmix --complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
};

export function completionScript(shell: Shell): string {
  return SCRIPTS[shell];
}

interface CompletionArguments {
  shell?: Shell | undefined;
}

export const completionCommand: CommandBody<CompletionArguments> = {
  builder: (parser) =>
    parser
      .positional('shell', { choices: SHELLS, describe: 'Default: that of $SHELL, else bash' })
      .example('source <($0 completion bash)', 'in ~/.bashrc')
      .example('$0 completion fish > ~/.config/fish/completions/exmix.fish', 'for fish'),
  handler: async ({ shell }) => {
    const own = SHELLS.find((known) => known === basename(process.env['SHELL'] ?? ''));
    await standardOutput.print(completionScript(shell ?? own ?? 'bash'));
  },
};
