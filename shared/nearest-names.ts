/** Finds the known names nearest to a mistyped one, for "did you mean Y?". */

/** A shorter part of a name says nothing about it. */
const MIN_PART = 3;

/** Edit distance (Levenshtein) between two strings. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitute, previous[j]! + 1, current[j - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}

/** At most `count` of `known`, nearest first: at most half of the letters differ, or one name contains the other. An empty name never is. */
export function nearestNames(name: string, known: readonly string[], count = 3): string[] {
  const wanted = name.toLowerCase();
  const scored = known
    .filter((candidate) => candidate !== '')
    .map((candidate) => {
      const lower = candidate.toLowerCase();
      const contained =
        Math.min(wanted.length, lower.length) >= MIN_PART && (lower.includes(wanted) || wanted.includes(lower));
      return { candidate, distance: contained ? 1 : editDistance(wanted, lower) };
    });
  return scored
    .filter(
      ({ distance, candidate }) => distance <= Math.max(1, Math.floor(Math.max(wanted.length, candidate.length) / 2)),
    )
    .sort((a, b) => a.distance - b.distance || a.candidate.localeCompare(b.candidate))
    .slice(0, count)
    .map(({ candidate }) => candidate);
}

/** `did you mean X, Y?`, or `otherwise` if no name is near. */
export function nearestHint(name: string, known: readonly string[], otherwise: string): string {
  const near = nearestNames(name, known);
  return near.length > 0 ? `did you mean ${near.join(', ')}?` : otherwise;
}
