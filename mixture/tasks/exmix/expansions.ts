/** Several examples from one row: one for each gold answer, or one for each turn of a dialogue. */
import { asList, asText, listAt, NO_LABEL, rootsOf, textsAt, type Identity } from './derivation.ts';
import type { SourceFields } from '../task.ts';

export interface Expansion {
  readonly identity: Identity;
  readonly words: string;
  readonly columns: readonly string[];
  /** The placeholders of each example, or the reason why the row is malformed. */
  expand(
    fields: SourceFields,
  ):
    { readonly ok: true; readonly examples: readonly SourceFields[] } | { readonly ok: false; readonly reason: string };
}

/**
 * T5's ReCoRD rule: one example for each gold answer, in `{answer}`. A row without answers gives one example with
 * `<unk>`.
 */
export function eachAnswer(path: string): Expansion {
  return {
    identity: { step: 'eachAnswer', version: 1, path },
    words: `one example for each of ${path}; ${NO_LABEL} where there is none`,
    columns: [path],
    expand(fields) {
      const answers = textsAt(fields, path);
      return { ok: true, examples: (answers.length === 0 ? [NO_LABEL] : answers).map((answer) => ({ answer })) };
    },
  };
}

/**
 * One example for each turn, in `{question}` and `{answer}`. `{history}` holds all earlier turns: `question: … answer:
 * …`.
 * @param answersPath a list that has, for each turn, the answer or a list of answers, of which the first is used
 */
export function eachTurn(questionsPath: string, answersPath: string): Expansion {
  return {
    identity: { step: 'eachTurn', version: 1, questionsPath, answersPath },
    words: `one example for each of ${questionsPath}, with the turns before it as history`,
    columns: rootsOf([questionsPath, answersPath]),
    expand(fields) {
      const questions = textsAt(fields, questionsPath);
      const answers = listAt(fields, answersPath).map((value) =>
        asText(Array.isArray(value) ? asList(value, answersPath)[0] : value, answersPath),
      );
      if (answers.length !== questions.length)
        return {
          ok: false,
          reason: `column "${answersPath}": expected ${questions.length} answers, one for each question, found ${answers.length}`,
        };
      const turns: SourceFields[] = [];
      let history = '';
      for (const [i, question] of questions.entries()) {
        const answer = answers[i]!;
        turns.push({ question, answer, history });
        history += `question: ${question} answer: ${answer} `;
      }
      return { ok: true, examples: turns };
    },
  };
}
