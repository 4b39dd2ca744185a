/**
 * Messages between a preparing process and its children. Both run the same version of the code, so the messages are
 * plain values without checks.
 */
import type { ErrorRecord } from '../../shared/errors.ts';
import type { SourceAccess } from '../sources/source-access.ts';
import type { FeatureLengths, MixtureOptions } from '../tasks/task.ts';
import type { EnsuredUnit, UnitOrder, UnitProgress } from './ensure-unit.ts';

/** Parent → child. */
export type ToUnitProcess =
  /** Sent once, first. */
  | { readonly kind: 'begin'; readonly setting: UnitSetting }
  /** Sent when the last unit is done. */
  | { readonly kind: 'unit'; readonly order: UnitOrder }
  /** Abort the unit that is being made, and exit. */
  | { readonly kind: 'stop' };

/** Child → parent. */
export type FromUnitProcess =
  | { readonly kind: 'progress'; readonly progress: UnitProgress }
  /** A line for the user. */
  | { readonly kind: 'note'; readonly line: string }
  | { readonly kind: 'done'; readonly ensured: EnsuredUnit }
  | { readonly kind: 'failed'; readonly error: ErrorRecord };

/** A child creates its UnitContext from it. */
export interface UnitSetting {
  readonly mixturePath: string;
  /** The options that the mixture was loaded with. */
  readonly mixtureOptions: MixtureOptions;
  readonly outDir: string;
  readonly featureLengths: FeatureLengths;
  readonly shardBytes: number;
  /** Plain values, without `onRetry` and clock. */
  readonly access: SourceAccess;
}
