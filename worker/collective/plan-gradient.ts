/** The flat gradient of a run: the model's parameters in backward order, cut into buckets. Compute and network thread compute the same plan. */
import type { RunConfig } from '../../shared/config/schema.ts';
import { planBuckets, type BucketPlan } from '../arena/bucket-plan.ts';
import { numElements, parameterSpecs } from '../model/parameters.ts';

export function planGradient({ model, collective, training }: RunConfig): BucketPlan {
  const sizes = parameterSpecs(model).map(({ name, shape }) => ({ name, numElements: numElements(shape) }));
  return planBuckets(sizes.reverse(), collective.bucketBytes, training.gradientPrecision);
}
