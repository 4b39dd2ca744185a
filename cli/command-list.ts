/**
 * The commands of exmix: what `exmix --help` lists. The module of a command is loaded only when the command or its help is called, so that
 * no command waits for the imports of another one.
 */
import type { CommandModule } from 'yargs';
import type { CommandBody } from './command-body.ts';

interface Command {
  /** Name and positional arguments, as yargs reads them. */
  readonly command: string;
  readonly describe: string;
  /** @returns a CommandBody of its own arguments */
  readonly load: () => Promise<object>;
}

const LIST: readonly Command[] = [
  {
    command: 'train',
    describe: 'Trains on this host: a coordinator and N worker processes',
    load: async () => (await import('./commands/train.ts')).trainCommand,
  },
  {
    command: 'finetune <folder>',
    describe: 'Trains a model that exists on tasks, by the recipe of T5; keeps the best by validation',
    load: async () => (await import('./commands/finetune.ts')).finetuneCommand,
  },
  {
    command: 'coordinator',
    describe: 'Coordinates a run; workers on any host join it',
    load: async () => (await import('./commands/coordinator.ts')).coordinatorCommand,
  },
  {
    command: 'worker',
    describe: 'Joins a coordinator and computes for it; one process per device',
    load: async () => (await import('./commands/worker.ts')).workerCommand,
  },
  {
    command: 'prepare',
    describe: 'Tokenizes the sources of a mixture into token shards; resumable, by many processes and hosts',
    load: async () => (await import('./commands/prepare.ts')).prepareCommand,
  },
  {
    command: 'tasks [words..]',
    describe: 'Lists the tasks of ExMix or of a mixture (list), or shows one with examples (show NAME)',
    load: async () => (await import('./commands/tasks.ts')).tasksCommand,
  },
  {
    command: 'mixture',
    describe: 'Shows the rates of a prepared mixture or of a run, and changes those of a run',
    load: async () => (await import('./commands/mixture.ts')).mixtureCommand,
  },
  {
    command: 'generate <folder>',
    describe: 'Outputs of a model for lines of text or JSONL: greedy, beam search, sampling',
    load: async () => (await import('./commands/generate.ts')).generateCommand,
  },
  {
    command: 'evaluate',
    describe: 'How good a model is on the validation or test sets of its tasks; compares two results',
    load: async () => (await import('./commands/evaluate.ts')).evaluateCommand,
  },
  {
    command: 'checkpoint',
    describe: 'Lists, shows and verifies checkpoints',
    load: async () => (await import('./commands/checkpoint.ts')).checkpointCommand,
  },
  {
    command: 'ledger',
    describe: 'What each step trained on: shows, audits, replays and ranks the steps of a run',
    load: async () => (await import('./commands/ledger.ts')).ledgerCommand,
  },
  {
    command: 'tokenizer',
    describe: 'Text to ids and back; training of a vocabulary',
    load: async () => (await import('./commands/tokenizer.ts')).tokenizerCommand,
  },
  {
    command: 'engine',
    describe: 'Installs, lists and removes the native engine',
    load: async () => (await import('./commands/engine.ts')).engineCommand,
  },
  {
    command: 'doctor',
    describe: 'Checks this machine and the engine, and predicts a run',
    load: async () => (await import('./commands/doctor.ts')).doctorCommand,
  },
  {
    command: 'status <run>',
    describe: 'What a run is doing or how it ended',
    load: async () => (await import('./commands/status.ts')).statusCommand,
  },
  {
    command: 'completion [shell]',
    describe: 'Prints a script with which bash, zsh or fish completes exmix',
    load: async () => (await import('./commands/completion.ts')).completionCommand,
  },
];

export const COMMANDS: readonly CommandModule[] = LIST.map(({ command, describe, load }) => {
  const body = async (): Promise<CommandBody> => (await load()) as CommandBody; // its builder declares the arguments of its handler
  return {
    command,
    describe,
    builder: async (parser) => (await body()).builder(parser),
    handler: async (args) => (await body()).handler(args),
  };
});
