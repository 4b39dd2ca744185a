/** A worker's part of an evaluation without a run: the model of a folder on an engine. */
import { parameterDigest } from '../shared/checkpoint/parameter-digest.ts';
import { checkEvaluationConfig } from '../shared/config/evaluation-config.ts';
import { TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { MessageOf } from '../shared/protocol/messages.ts';
import type { Engine } from './engine/engine.ts';
import { readModel } from './model/read-model.ts';
import type { WorkerParts } from './worker-parts.ts';

/** The most that an `evaluation-ready` carries (shared/protocol/messages.ts). */
const MAX_ENGINE_NOTES = 16;

type Welcome = MessageOf<'welcome-evaluation'>;

export interface Evaluator {
  readonly welcome: Welcome;
  readonly engine: Engine;
  readonly facts: Omit<MessageOf<'evaluation-ready'>, 'kind' | 'epoch'>;
}

export interface OpenEvaluatorInit {
  readonly welcome: Welcome;
  readonly parts: Pick<WorkerParts, 'createEvaluationEngine'>;
  readonly log: Logger;
  /** Receives the function that closes the engine. */
  readonly onOpened: (close: () => Promise<void>) => void;
}

/** @throws CHECKPOINT_MISMATCH for parameters of another digest; what readModel and the engine throw */
export async function openEvaluator({ welcome, parts, log, onOpened }: OpenEvaluatorInit): Promise<Evaluator> {
  const { compute } = checkEvaluationConfig(welcome.config, 'the config from the coordinator');
  const { config, parameters } = await readModel(welcome.model);
  const digest = parameterDigest(parameters);
  if (digest !== welcome.paramDigest)
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `${welcome.model}: expected parameters with digest ${welcome.paramDigest}, found ${digest}; ` +
        'every host must see the same folder under this path',
    );
  const { engine, reason, notes } = await parts.createEvaluationEngine(compute, config);
  onOpened(() => engine.dispose());
  await engine.load(parameters, 'zero');
  const { name, device, fingerprint } = engine.description;
  log.info({ engine: name, device, fingerprint, reason }, 'engine ready');
  for (const note of notes) log.warn({ reason: note }, 'engine not as it could be');
  const numParameters = [...parameters.values()].reduce((sum, { length }) => sum + length, 0);
  const engineNotes = notes.slice(0, MAX_ENGINE_NOTES);
  return { welcome, engine, facts: { engine: name, engineFingerprint: fingerprint, engineNotes, numParameters } };
}

/** @throws CONFIG_INVALID where a later coordinator evaluates another model */
export function checkSameModel(before: Welcome, now: Welcome): void {
  if (before.paramDigest === now.paramDigest) return;
  throw new TrainerError(
    'CONFIG_INVALID',
    `expected the model ${before.model} that this worker was started with, the coordinator evaluates ${now.model}; start it again`,
  );
}
