/** Groups in which the gradients of a step are fetched. Pure. */
import { numElements, type ParameterSpec } from '../../model/parameters.ts';

/**
 * Groups of parameter numbers, last parameter first. Each group is a run of neighbours with about an equal share of all values, so that the
 * first gradients are sent while most of the backward pass is still to come.
 * @param maxGroups at least 1
 */
export function gradientGroups(parameters: readonly ParameterSpec[], maxGroups: number): number[][] {
  const total = parameters.reduce((sum, { shape }) => sum + numElements(shape), 0);
  const groups: number[][] = [];
  let group: number[] = [];
  let handedOut = 0;
  for (let i = parameters.length - 1; i >= 0; i--) {
    group.push(i);
    handedOut += numElements(parameters[i]!.shape);
    if (i > 0 && handedOut < ((groups.length + 1) * total) / maxGroups) continue;
    groups.push(group);
    group = [];
  }
  return groups;
}
