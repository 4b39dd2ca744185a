/** `exmix completion`: prints the script that makes a shell complete exmix's commands, flags and values. */
import { basename } from 'node:path';
import { standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { completionScript, SHELLS, type Shell } from '../completion.ts';

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
