/** What a preparing process and its children say to each other. Both are the same code of the same version: plain values, unchecked. */
import type { ErrorRecord } from '../../shared/errors.ts';
import type { SourceAccess } from '../sources/source-access.ts';
import type { FeatureLengths, MixtureOptions } from '../tasks/task.ts';
import type { EnsuredUnit, UnitOrder, UnitProgress } from './ensure-unit.ts';

/** Parent → child. */
export type ToUnitProcess =
  /** First, and once. */
  | { readonly kind: 'begin'; readonly setting: UnitSetting }
  /** One at a time. */
  | { readonly kind: 'unit'; readonly order: UnitOrder }
  /** Call off what is being made, and end. */
  | { readonly kind: 'stop' };

/** Child → parent. */
export type FromUnitProcess =
  | { readonly kind: 'progress'; readonly progress: UnitProgress }
  /** A line for the user. */
  | { readonly kind: 'note'; readonly line: string }
  | { readonly kind: 'done'; readonly ensured: EnsuredUnit }
  | { readonly kind: 'failed'; readonly error: ErrorRecord };

/** From which a child makes its UnitContext. */
export interface UnitSetting {
  readonly mixturePath: string;
  /** With which it was loaded. */
  readonly mixtureOptions: MixtureOptions;
  readonly outDir: string;
  readonly featureLengths: FeatureLengths;
  readonly shardBytes: number;
  /** Plain values: no `onRetry`, no clock. */
  readonly access: SourceAccess;
}
