/** Made-up rows of the Shakespeare pairs and of each style of StylePTB. */
import type { Examples, MadeUpRows } from './made-up-rows.ts';

function pairs(prefix: string, ...rows: readonly (readonly [source: string, target: string])[]): MadeUpRows {
  return {
    rows: rows.map(([source, target]) => ({ source, target })),
    expected: rows.map(([source, target]) => [`${prefix} ${source}`, target]),
  };
}

export const STYLE_TRANSFER_ROWS: Examples = {
  shakespeare_modern_to_shakespeare: {
    rows: [
      { modern: 'Where are you going ?', original: 'Whither goest thou ?' },
      { modern: 'I do not know .', original: 'I know not .' },
    ],
    expected: [
      ['modern to shakespeare: Where are you going ?', 'Whither goest thou ?'],
      ['modern to shakespeare: I do not know .', 'I know not .'],
    ],
  },
  shakespeare_shakespeare_to_modern: {
    rows: [
      { modern: 'Come here .', original: 'Come hither .' },
      { modern: 'You are kind .', original: 'Thou art kind .' },
    ],
    expected: [
      ['shakespeare to modern: Come hither .', 'Come here .'],
      ['shakespeare to modern: Thou art kind .', 'You are kind .'],
    ],
  },
  styleptb_tfu: pairs(
    'styleptb to future tense:',
    ['the mill grinds corn', 'the mill will grind corn'],
    ['he rows', 'he will row'],
  ),
  styleptb_tpa: pairs(
    'styleptb to past tense:',
    ['the mill grinds corn', 'the mill ground corn'],
    ['he rows', 'he rowed'],
  ),
  styleptb_tpr: pairs(
    'styleptb to present tense:',
    ['the mill ground corn', 'the mill grinds corn'],
    ['he rowed', 'he rows'],
  ),
  styleptb_atp: pairs(
    'styleptb active to passive:',
    ['Ana sold the mill', 'the mill was sold by Ana'],
    ['he read it', 'it was read by him'],
  ),
  styleptb_pta: pairs(
    'styleptb passive to active:',
    ['the mill was sold by Ana', 'Ana sold the mill'],
    ['it was read by him', 'he read it'],
  ),
  styleptb_pfb: pairs(
    'styleptb prepositional phrase front to back:',
    ['in May sales rose', 'sales rose in May'],
    ['by noon he left', 'he left by noon'],
  ),
  styleptb_pbf: pairs(
    'styleptb prepositional phrase back to front:',
    ['sales rose in May', 'in May sales rose'],
    ['he left by noon', 'by noon he left'],
  ),
  styleptb_iad: pairs(
    'styleptb information addition:',
    ['sales rose <sep> in May', 'sales rose in May'],
    ['he left <sep> early', 'he left early'],
  ),
  styleptb_arr: pairs(
    'styleptb adjective and adverb removal:',
    ['the old mill quickly sold', 'the mill sold'],
    ['a red boat', 'a boat'],
  ),
  styleptb_sbr: pairs(
    'styleptb substatement removal:',
    ['sales rose , he said', 'sales rose'],
    ['it is late , I think', 'it is late'],
  ),
  styleptb_ppr: pairs(
    'styleptb prepositional phrase removal:',
    ['sales rose in May', 'sales rose'],
    ['he left by noon', 'he left'],
  ),
  styleptb_aem: pairs(
    'styleptb adjective emphasis:',
    ['the old mill sold <sep> old', 'the mill that sold was old'],
    ['a red boat <sep> red', 'a boat that is red'],
  ),
  styleptb_vem: pairs(
    'styleptb verb emphasis:',
    ['he rowed home <sep> rowed', 'what he did was row home'],
    ['she sang <sep> sang', 'what she did was sing'],
  ),
  styleptb_nsr: pairs(
    'styleptb noun synonym replacement:',
    ['the boat sank', 'the ship sank'],
    ['a big house', 'a big home'],
  ),
  styleptb_asr: pairs(
    'styleptb adjective synonym replacement:',
    ['a big house', 'a large house'],
    ['a glad man', 'a happy man'],
  ),
  styleptb_vsr: pairs(
    'styleptb verb synonym replacement:',
    ['sales rose', 'sales climbed'],
    ['he started', 'he began'],
  ),
  styleptb_nar: pairs(
    'styleptb noun antonym replacement:',
    ['a gain in May', 'a loss in May'],
    ['the start', 'the end'],
  ),
  styleptb_aar: pairs(
    'styleptb adjective antonym replacement:',
    ['a big house', 'a small house'],
    ['a glad man', 'a sad man'],
  ),
  styleptb_var: pairs('styleptb verb antonym replacement:', ['sales rose', 'sales fell'], ['he started', 'he stopped']),
  styleptb_lfs: pairs(
    'styleptb least frequent synonym replacement:',
    ['a big house', 'a voluminous house'],
    ['he ate', 'he consumed'],
  ),
  styleptb_mfs: pairs(
    'styleptb most frequent synonym replacement:',
    ['a voluminous house', 'a big house'],
    ['he consumed', 'he ate'],
  ),
};
