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

/** The request of `exmix mixture set`. */
export const ratesRequestSchema = z.strictObject({
  /** Task → its rate, or `auto` for the computed one. */
  rates: z.record(z.string().max(256), rateOrAuto),
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

/** The settings after a request. @throws NAME_UNKNOWN */
function applyRequest(
  { rates, denoisingRatio }: RatesRequest,
  before: RateSettings,
  configured: RateSettings,
  sizes: readonly TaskSize[],
): RateSettings {
  const names = sizes.map(({ name }) => name);
  const after = new Map(Object.entries(before.rates));
  for (const [name, rate] of Object.entries(rates)) {
    if (!names.includes(name)) {
      const near = nearestNames(name, names);
      const hint = near.length > 0 ? `nearest: ${near.join(', ')}` : `they are ${names.join(', ')}`;
      throw new TrainerError(
        'NAME_UNKNOWN',
        `mixture: expected one of the ${names.length} tasks of the run, found ${JSON.stringify(name)}; ${hint}`,
      );
    }
    if (rate === 'auto') after.delete(name);
    else after.set(name, rate);
  }
  const ratio = denoisingRatio === 'auto' ? configured.denoisingRatio : (denoisingRatio ?? before.denoisingRatio);
  return { rates: Object.fromEntries(after), denoisingRatio: ratio };
}
