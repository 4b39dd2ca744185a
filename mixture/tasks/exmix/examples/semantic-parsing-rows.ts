/** Made-up rows of FunQL and COGS. */
import type { Examples } from './made-up-rows.ts';

export const SEMANTIC_PARSING_ROWS: Examples = {
  funql_atis: {
    rows: [
      { utterance: 'flights from ci0 to ci1', funql: 'answer(intersect(_flight,_from_2(ci0),_to_2(ci1)))' },
      { utterance: 'flights on day0', funql: 'answer(_day_2(day0))' },
    ],
    expected: [
      ['parse to funql atis: flights from ci0 to ci1', 'answer(intersect(_flight,_from_2(ci0),_to_2(ci1)))'],
      ['parse to funql atis: flights on day0', 'answer(_day_2(day0))'],
    ],
  },
  funql_geo: {
    rows: [
      { utterance: 'what rivers are in s0', funql: "answer(river(loc_2(stateid('s0'))))" },
      { utterance: 'how big is s0', funql: "answer(size(stateid('s0')))" },
    ],
    expected: [
      ['parse to funql geo: what rivers are in s0', "answer(river(loc_2(stateid('s0'))))"],
      ['parse to funql geo: how big is s0', "answer(size(stateid('s0')))"],
    ],
  },
  funql_jobs: {
    rows: [
      { utterance: 'jobs that use lang0', funql: 'answer(language(lang0))' },
      { utterance: 'jobs in loc0', funql: 'answer(loc(loc0))' },
    ],
    expected: [
      ['parse to funql jobs: jobs that use lang0', 'answer(language(lang0))'],
      ['parse to funql jobs: jobs in loc0', 'answer(loc(loc0))'],
    ],
  },
  cogs: {
    otherColumns: { kind: 'string' },
    rows: [
      { sentence: 'A fox slept .', form: 'fox ( x _ 1 ) AND sleep . agent ( x _ 2 , x _ 1 )', kind: 'in_distribution' },
      { sentence: 'Mia ate .', form: 'eat . agent ( x _ 1 , Mia )', kind: 'in_distribution' },
    ],
    expected: [
      ['cogs: A fox slept .', 'fox ( x _ 1 ) AND sleep . agent ( x _ 2 , x _ 1 )'],
      ['cogs: Mia ate .', 'eat . agent ( x _ 1 , Mia )'],
    ],
  },
};
