export function assignRanks(
  previous: readonly string[],
  ready: readonly string[],
  maxWorkers: number,
): { members: string[]; reason: string } {
  const survivors = previous.filter((id) => ready.includes(id));
  const members = [...survivors, ...ready.filter((id) => !previous.includes(id)).sort()].slice(0, maxWorkers);
  return { members, reason: '' };
}
