/** `exmix mixture set`: changes the rates of a run while it trains. */
import type { CommandModule } from 'yargs';
import {
  ratesAnswerSchema,
  type RateSetting,
  type RatesAnswer,
  type RatesRequest,
} from '../../coordinator/steering/steering.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import { askCoordinator, findCoordinator } from '../coordinator-client.ts';
import { formatTable } from '../text-table.ts';

interface SetArguments {
  run: string;
  settings: string[];
  reason?: string | undefined;
  'token-file'?: string | undefined;
  json: boolean;
}

/** Given like the rate of a task, but not a task. */
const RATIO = 'denoisingRatio';

export const setCommand: CommandModule<object, SetArguments> = {
  command: 'set <run> <settings..>',
  describe: 'Changes rates while a run trains; prints the step at which they take effect',
  builder: (parser) =>
    parser
      .positional('run', { type: 'string', demandOption: true, describe: "Run folder, or its coordinator's URL" })
      .positional('settings', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: `task=rate in examples, task=x3 (times), task=10% (of all draws), task=auto (computed), ${RATIO}=R`,
      })
      .option('reason', { type: 'string', describe: 'Recorded in the journal and the log' })
      .option('token-file', { type: 'string', describe: 'File with the token, for a URL; default: $EXMIX_TOKEN' })
      .option('json', { type: 'boolean', default: false, describe: 'JSON instead of a table' })
      .example('$0 mixture set runs/demo-20261123-120000 spam=0', 'stops drawing from a task')
      .example('$0 mixture set runs/demo-20261123-120000 spam=x3 ham=10%', 'three times the rate; a tenth of all draws')
      .example(
        `$0 mixture set runs/demo-20261123-120000 spam=auto ${RATIO}=1`,
        'back to the computed rate, and less denoising',
      ),
  handler: async ({ run, settings, reason, 'token-file': tokenFile, json }) => {
    const coordinator = await findCoordinator(run, tokenFile);
    if (coordinator === undefined)
      throw new TrainerError(
        'PATH_UNUSABLE',
        `${run}: expected the folder of a training run, found none with a coordinator.json; see "exmix status"`,
      );
    const request = { ...parseSettings(settings), ...(reason === undefined ? {} : { reason }) };
    const answer = ratesAnswerSchema.parse(await askCoordinator(coordinator, '/mixture/rates', request));
    if (json) await standardOutput.print(`${JSON.stringify(answer)}\n`);
    else standardOutput.write(format(answer, Object.keys(request.rates)));
  },
};

/** @throws CONFIG_INVALID */
function parseSettings(settings: readonly string[]): Pick<RatesRequest, 'rates' | 'denoisingRatio'> {
  const rates: Record<string, RateSetting> = {};
  let denoisingRatio: RatesRequest['denoisingRatio'];
  const names = new Set<string>();
  for (const setting of settings) {
    const at = setting.lastIndexOf('=');
    const name = setting.slice(0, at);
    const value = at < 1 ? undefined : parseRate(setting.slice(at + 1));
    if (value === undefined)
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture set: expected task=RATE with a number of at least 0, task=xN, task=N% with N above 0 and below 100, or task=auto, got ${JSON.stringify(setting)}`,
      );
    if (names.has(name)) throw new TrainerError('CONFIG_INVALID', `mixture set: ${name} is given twice`);
    names.add(name);
    if (name !== RATIO) rates[name] = value;
    else if (typeof value === 'object')
      throw new TrainerError('CONFIG_INVALID', `mixture set: expected ${RATIO}=R with a number, got ${setting}`);
    else denoisingRatio = value;
  }
  return { rates, ...(denoisingRatio === undefined ? {} : { denoisingRatio }) };
}

/** @returns undefined for a text that is no rate */
function parseRate(text: string): RateSetting | undefined {
  if (text === 'auto') return text;
  const [, times, number, percent] = /^(x?)(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)(%?)$/u.exec(text) ?? [];
  const value = Number(number);
  if (number === undefined || !Number.isFinite(value) || (times !== '' && percent !== '')) return undefined;
  if (times !== '') return { times: value };
  if (percent !== '') return value > 0 && value < 100 ? { share: value / 100 } : undefined;
  return value;
}

function format({ window, firstStep, dealtStep, steps, tasks }: RatesAnswer, asked: readonly string[]): string {
  const shown = tasks.filter(({ name }) => asked.includes(name));
  const others = tasks.filter(({ name }) => !asked.includes(name));
  const total = (key: 'before' | 'after') => others.reduce((sum, task) => sum + task[key], 0);
  const rows = shown.map(({ name, before, after }) => [name, 100 * before, 100 * after]);
  if (others.length > 0) rows.push([`${others.length} other tasks`, 100 * total('before'), 100 * total('after')]);
  const delay = `${firstStep - dealtStep - 1} more steps use the old rates`;
  const never = firstStep > steps ? `; the run ends before, at step ${steps}` : '';
  return (
    `the rates change at step ${firstStep}, with window ${window} of the plan: ${delay}${never}\n` +
    formatTable(['task', '% of draws before', '% after'], rows)
  );
}
