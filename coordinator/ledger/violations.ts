/** What an audit finds: all counted, the first of each kind listed. */

const KINDS = [
  'damaged',
  'not recorded',
  'not committed',
  'differs',
  'twice',
  'never',
  'early',
  'no such example',
] as const;
export type ViolationKind = (typeof KINDS)[number];

/** Of each kind. */
export const MAX_LISTED = 20;

export interface Violation {
  readonly kind: ViolationKind;
  /** One sentence. */
  readonly what: string;
  readonly task?: string;
  /** Of the task. */
  readonly epoch?: number;
  readonly index?: number;
  /** Where it happened. */
  readonly steps: readonly number[];
}

export class Violations {
  readonly #listed = new Map<ViolationKind, Violation[]>(KINDS.map((kind) => [kind, []]));
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Whether another one of this kind would be listed. */
  hasRoom(kind: ViolationKind): boolean {
    return this.#listed.get(kind)!.length < MAX_LISTED;
  }

  add(violation: Violation): void {
    this.#count += 1;
    if (this.hasRoom(violation.kind)) this.#listed.get(violation.kind)!.push(violation);
  }

  /** Counts some that are not listed. */
  addUnlisted(count: number): void {
    this.#count += count;
  }

  /** By kind, the gravest first. */
  list(): Violation[] {
    return [...this.#listed.values()]
      .flat()
      .map((violation) => ({ ...violation, steps: [...violation.steps].sort((a, b) => a - b) }));
  }
}
