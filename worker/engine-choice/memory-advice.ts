/**
 * Wraps an engine: adds the microbatch that would fit to its ENGINE_OUT_OF_MEMORY, because the library's own message names one tensor only. All
 * else passes unchanged.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import type { OptimizerKind } from '../../shared/optimizer.ts';
import { adviseOnMemory, type Retention, type StepShape } from '../model/step-memory.ts';
import type { Batch, Engine, EngineDescription } from '../engine/engine.ts';

export interface MemoryAdviceInit {
  readonly config: ModelConfig;
  readonly optimizer: OptimizerKind;
  readonly retention: Retention;
  /** In place of the engine's own. */
  readonly description?: EngineDescription;
  /** Memory that the engine may use on its device, B; called only when memory ran out. */
  readonly availableBytes: () => Promise<number>;
}

export function withMemoryAdvice(engine: Engine, init: MemoryAdviceInit): Engine {
  const advise = async <T>(call: Promise<T>, shape: StepShape): Promise<T> => {
    try {
      return await call;
    } catch (error) {
      if (!(error instanceof TrainerError) || error.code !== 'ENGINE_OUT_OF_MEMORY') throw error;
      const { config, optimizer, retention } = init;
      const availableBytes = await init.availableBytes();
      const advice = adviseOnMemory(config, shape, { availableBytes, optimizer, retention });
      throw new TrainerError('ENGINE_OUT_OF_MEMORY', `${error.message}; ${advice}`, { cause: error });
    }
  };
  /** For calls before the first batch: one row of one token each, which only the parameters fill. */
  let shape: StepShape = { numRows: 1, inputsLength: 1, targetsLength: 1 };
  return {
    description: init.description ?? engine.description,
    parameters: engine.parameters,
    optimizerSlots: engine.optimizerSlots,
    load: (parameters, optimizer) => advise(engine.load(parameters, optimizer), shape),
    step: (batch, onGradient) => advise(engine.step(batch, onGradient), (shape = stepShapeOf(batch))),
    apply: (gradients, update) => advise(engine.apply(gradients, update), shape),
    readBack: (parameters, optimizer) => engine.readBack(parameters, optimizer),
    forward: (batch) => advise(engine.forward(batch), shapeOf(batch)),
    score: (batch) => advise(engine.score(batch), shapeOf(batch)),
    startDecoding: (inputs) => engine.startDecoding(inputs),
    memory: () => engine.memory(),
    dispose: () => engine.dispose(),
  };
}

function shapeOf({ numRows, inputsLength, targetsLength }: StepShape): StepShape {
  return { numRows, inputsLength, targetsLength };
}

function stepShapeOf(batch: Batch): StepShape {
  return { ...shapeOf(batch), hasDropout: batch.dropoutKeys !== undefined };
}
