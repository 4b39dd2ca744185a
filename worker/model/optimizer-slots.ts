/** The optimizer's state of each parameter: names and shapes. Pure, and free of tfjs: the coordinator plans files by it. */
import type { OptimizerKind } from '../../shared/optimizer.ts';
import type { ParameterSpec } from './parameters.ts';

const MIN_SIDE_TO_FACTOR = 128;

/** Part of the optimizer's state of one parameter. */
export interface SlotSpec {
  /** Adafactor: vr and vc, or v. AdamW: m and v. */
  readonly kind: 'vr' | 'vc' | 'm' | 'v';
  readonly shape: readonly number[];
}

export interface OptimizerSlot {
  /** The parameter's name with `.vr`, `.vc`, `.m` or `.v`. */
  readonly name: string;
  readonly shape: readonly number[];
}

/** The axes of a matrix that Adafactor factors, or undefined; of two equal sides the last counts as the longer. Both must be at least 128 (mesh_tensorflow/optimize.py). */
export function factoredAxes(
  shape: readonly number[],
): { readonly longer: 0 | 1; readonly shorter: 0 | 1 } | undefined {
  const [rows, columns] = shape;
  if (rows === undefined || columns === undefined || Math.min(rows, columns) < MIN_SIDE_TO_FACTOR) return undefined;
  return rows > columns ? { longer: 0, shorter: 1 } : { longer: 1, shorter: 0 };
}

/** The optimizer's state of a parameter of that shape; it starts at zero. */
export function slotSpecs(shape: readonly number[], optimizer: OptimizerKind): SlotSpec[] {
  if (optimizer !== 'adafactor')
    return [
      { kind: 'm', shape },
      { kind: 'v', shape },
    ];
  const axes = factoredAxes(shape);
  if (axes === undefined) return [{ kind: 'v', shape }];
  const without = (axis: number) => shape.filter((_, i) => i !== axis);
  return [
    { kind: 'vr', shape: without(axes.longer) },
    { kind: 'vc', shape: without(axes.shorter) },
  ];
}

/** The slots of all parameters, in their order. */
export function optimizerSlots(parameters: readonly ParameterSpec[], optimizer: OptimizerKind): OptimizerSlot[] {
  return parameters.flatMap(({ name, shape }) =>
    slotSpecs(shape, optimizer).map((slot) => ({ name: `${name}.${slot.kind}`, shape: slot.shape })),
  );
}
