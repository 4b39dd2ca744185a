/**
 * Steers a run during training: changes its rates between two windows of the plan, and reports the state of its mixture.
 *
 * A change is checked, journalled with fsync, and logged. It takes effect at the first window that is not planned yet; the answer names the
 * step. A coordinator that dies before the journal has the change has dealt nothing by it; one that dies later replays it.
 */
import { z } from 'zod';
import { checkShares, type TaskLengths } from '../../mixture/plan/plan-config.ts';
import type { TaskSize } from '../../mixture/plan/rates.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import { nearestNames } from '../../shared/nearest-names.ts';
import type { Journal } from '../journal/journal.ts';
import { ratesOf } from '../deal/plan-config.ts';
import type { StepDealer } from '../deal/step-dealer.ts';
import {
  rateChangeSchema,
  settingsAt,
  type RateChange,
  type RateSettings,
  type RunCursor,
} from '../deal/rate-changes.ts';
import { MAX_STEPS, reportMixture, type MixtureReport, type StepLosses } from './steering-report.ts';

const rateOrAuto = z.union([z.number().nonnegative(), z.literal('auto')]);
const rateSetting = z.union([
  rateOrAuto,
  /** A multiple of the rate before the request. */
  z.strictObject({ times: z.number().nonnegative() }),
  /** A share of all draws, above 0 and below 1; the other tasks keep their rates and get less. */
  z.strictObject({ share: z.number().gt(0).lt(1) }),
]);
export type RateSetting = z.output<typeof rateSetting>;

/** The request of `exmix mixture set`. */
export const ratesRequestSchema = z.strictObject({
  /** Task → its rate in examples, `auto` for the computed one, a multiple, or a share. */
  rates: z.record(z.string().max(256), rateSetting),
  /** R, or `auto` for that of the configuration. */
  denoisingRatio: rateOrAuto.optional(),
  /** For the journal. */
  reason: z.string().max(1024).default(''),
});
export type RatesRequest = z.output<typeof ratesRequestSchema>;

/** The answer. */
export const ratesAnswerSchema = rateChangeSchema.extend({
  /** The last step dealt before the request: the steps from there to `firstStep` are the delay. */
  dealtStep: z.int().nonnegative(),
  /** Updates of the whole run. */
  steps: z.int().positive(),
  /** Shares of all draws. */
  tasks: z.array(z.strictObject({ name: z.string(), before: z.number(), after: z.number() })),
});
export type RatesAnswer = z.output<typeof ratesAnswerSchema>;

export interface SteeringInit {
  readonly config: RunConfig;
  readonly sizes: readonly TaskSize[];
  readonly tasks: readonly TaskLengths[];
  readonly dealer: StepDealer;
  readonly journal: Pick<Journal, 'append'>;
  readonly epoch: number;
  readonly log: Logger;
}

export class Steering {
  readonly #init: SteeringInit;
  readonly #steps: StepLosses[] = [];
  #committed: { readonly step: number; readonly cursor: RunCursor };
  #lastChange: Promise<unknown> = Promise.resolve();

  constructor(init: SteeringInit) {
    this.#init = init;
    this.#committed = { step: init.dealer.step, cursor: init.dealer.cursor };
  }

  /** @param at the plan's place after the step */
  onCommit(losses: StepLosses, { cursor }: { readonly cursor: RunCursor }): void {
    this.#committed = { step: losses.step, cursor };
    this.#steps.push(losses);
    if (this.#steps.length > MAX_STEPS) this.#steps.shift();
  }

  /** @param last mean losses over this many of the last steps, those of this session */
  report(last: number): MixtureReport {
    const { step, cursor } = this.#committed;
    const { dealer } = this.#init;
    return reportMixture(step, { ...cursor, rateChanges: [...dealer.rateChanges] }, this.#steps.slice(-last));
  }

  /**
   * Changes rates. Requests are handled one after the other.
   * @throws NAME_UNKNOWN with the nearest names; CONFIG_INVALID where no task would have a share, a task without examples would get a rate, or
   *   no share would change; DISK_FULL, PATH_UNUSABLE where the journal cannot be written
   */
  change(request: RatesRequest): Promise<RatesAnswer> {
    const changed = this.#lastChange.then(() => this.#change(request));
    this.#lastChange = changed.catch(() => undefined);
    return changed;
  }

  async #change(request: RatesRequest): Promise<RatesAnswer> {
    const { config, sizes, tasks, dealer, journal, epoch, log } = this.#init;
    const { window, firstStep } = dealer.nextChange;
    const before = settingsAt(config.mixture, dealer.rateChanges, Infinity);
    const settings = applyRequest(request, before, config.mixture, sizes);
    const sharesOf = (given: RateSettings) => ratesOf(config.mixture, sizes, given).map(({ share }) => share);
    const sharesBefore = sharesOf(before);
    const shares = sharesOf(settings);
    checkShares(shares, tasks);
    if (shares.every((share, task) => share === sharesBefore[task]))
      throw new TrainerError(
        'CONFIG_INVALID',
        'mixture: these rates change no share: they hold already, or belong to the only denoising task, whose share follows from denoisingRatio; nothing was done',
      );
    const change: RateChange = { window, firstStep, ...settings };
    const { reason } = request;
    await dealer.changeRates(change, shares, journal.append({ kind: 'rates-changed', epoch, ...change, reason }));
    log.info({ ...change, reason }, 'rates changed');
    return {
      ...change,
      dealtStep: dealer.step,
      steps: config.training.steps,
      tasks: sizes.map(({ name }, task) => ({ name, before: sharesBefore[task]!, after: shares[task]! })),
    };
  }
}

/** The settings after a request. Pure. @throws NAME_UNKNOWN; CONFIG_INVALID for shares that cannot be reached */
function applyRequest(
  { rates, denoisingRatio }: Pick<RatesRequest, 'rates' | 'denoisingRatio'>,
  before: RateSettings,
  configured: RunConfig['mixture'],
  sizes: readonly TaskSize[],
): RateSettings {
  const rateBefore = new Map(ratesOf(configured, sizes, before).map(({ name, rate }) => [name, rate]));
  const after = new Map(Object.entries(before.rates));
  const shares = new Map<string, number>();
  for (const [name, setting] of Object.entries(rates)) {
    if (!rateBefore.has(name)) throw unknownTask(name, [...rateBefore.keys()]);
    if (setting === 'auto') after.delete(name);
    else if (typeof setting === 'number') after.set(name, setting);
    else if ('times' in setting) after.set(name, setting.times * rateBefore.get(name)!);
    else shares.set(name, setting.share);
  }
  const ratio = denoisingRatio === 'auto' ? configured.denoisingRatio : (denoisingRatio ?? before.denoisingRatio);
  const settings = { rates: Object.fromEntries(after), denoisingRatio: ratio };
  if (shares.size === 0) return settings;
  return { ...settings, rates: { ...settings.rates, ...ratesForShares(shares, settings, configured, sizes) } };
}

/**
 * Rates at which these tasks have their shares of all draws, while the others keep their rates. With f = share / (share of all supervised
 * tasks) and S = sum of the others' rates, a task needs f · S / (1 - sum of all f).
 */
function ratesForShares(
  shares: ReadonlyMap<string, number>,
  settings: RateSettings,
  configured: RunConfig['mixture'],
  sizes: readonly TaskSize[],
): Record<string, number> {
  const supervisedShare = sizes.some(({ kind }) => kind === 'denoising') ? 1 / (settings.denoisingRatio + 1) : 1;
  let othersRate = 0;
  for (const { name, kind, rate, numExamples } of ratesOf(configured, sizes, settings)) {
    if (!shares.has(name)) {
      if (kind === 'supervised') othersRate += rate;
    } else if (kind === 'denoising')
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: the share of ${name} follows from denoisingRatio R, R / (R + 1) of all draws; set denoisingRatio`,
      );
    else if (numExamples === 0)
      throw new TrainerError('CONFIG_INVALID', `mixture: ${name} has no examples; it cannot have a share of the draws`);
  }
  const asked = [...shares.values()].reduce((sum, share) => sum + share, 0) / supervisedShare;
  const percent = (share: number): string => `${Number((100 * share).toPrecision(4))} %`;
  if (asked >= 1 || othersRate === 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: expected shares that leave draws for other supervised tasks with a rate, found ${percent(asked * supervisedShare)} of all draws; ` +
        `all supervised tasks have ${percent(supervisedShare)} at denoisingRatio ${settings.denoisingRatio}`,
    );
  const unit = othersRate / (1 - asked);
  return Object.fromEntries([...shares].map(([name, share]) => [name, (share / supervisedShare) * unit]));
}

function unknownTask(name: string, names: readonly string[]): TrainerError {
  const near = nearestNames(name, names);
  const hint = near.length > 0 ? `nearest: ${near.join(', ')}` : `they are ${names.join(', ')}`;
  return new TrainerError(
    'NAME_UNKNOWN',
    `mixture: expected one of the ${names.length} tasks of the run, found ${JSON.stringify(name)}; ${hint}`,
  );
}
