/** Made-up rows of DialoGLUE. Intent files: text,category as its scripts write them; spans and parses from memory. */
import type { Examples } from './made-up-rows.ts';

export const DIALOGUE_ROWS: Examples = {
  dialoglue_banking77: {
    rows: [
      { text: 'My card has not come yet.', category: 'card_arrival' },
      { text: 'How do I change my PIN?', category: 'change_pin' },
    ],
    expected: [
      ['banking77: My card has not come yet.', 'card_arrival'],
      ['banking77: How do I change my PIN?', 'change_pin'],
    ],
  },
  dialoglue_clinc150: {
    rows: [
      { text: 'what time is it in lyra', category: 'time' },
      { text: 'say that again', category: 'repeat' },
    ],
    expected: [
      ['clinc150: what time is it in lyra', 'time'],
      ['clinc150: say that again', 'repeat'],
    ],
  },
  dialoglue_hwu64: {
    rows: [
      { text: 'wake me at six', category: 'alarm_set' },
      { text: 'make the lights dim', category: 'iot_hue_lightdim' },
    ],
    expected: [
      ['hwu64: wake me at six', 'alarm_set'],
      ['hwu64: make the lights dim', 'iot_hue_lightdim'],
    ],
  },
  dialoglue_restaurant8k: {
    rows: [
      {
        userInput: { text: 'A table for four at 7 pm' },
        labels: [
          { slot: 'people', valueSpan: { startIndex: 12, endIndex: 16 } },
          { slot: 'time', valueSpan: { startIndex: 20, endIndex: 24 } },
        ],
      },
      { userInput: { text: 'Vela is my name' }, labels: [{ slot: 'last_name', valueSpan: { endIndex: 4 } }] },
      { userInput: { text: 'Thank you!' } },
    ],
    expected: [
      ['restaurant8k: A table for four at 7 pm', 'people: four, time: 7 pm'],
      ['restaurant8k: Vela is my name', 'last_name: Vela'],
      ['restaurant8k: Thank you!', 'none'],
    ],
  },
  dialoglue_dstc8_sgd: {
    rows: [
      {
        userInput: { text: 'A bus to Lyra please' },
        labels: [{ slot: 'to_location', valueSpan: { startIndex: 9, endIndex: 13 } }],
      },
      { userInput: { text: 'That is all' }, labels: [] },
    ],
    expected: [
      ['dstc8_sgd: A bus to Lyra please', 'to_location: Lyra'],
      ['dstc8_sgd: That is all', 'none'],
    ],
  },
  dialoglue_top: {
    otherColumns: { tokens: 'string' },
    rows: [
      {
        utterance: 'How far is Lyra',
        tokens: 'How far is Lyra',
        parse: '[IN:GET_DISTANCE How far is [SL:DESTINATION Lyra ] ]',
      },
      { utterance: 'Any  jams?', tokens: 'Any jams ?', parse: '[IN:GET_INFO_TRAFFIC Any jams ? ]' },
    ],
    expected: [
      ['top: How far is Lyra', '[IN:GET_DISTANCE How far is [SL:DESTINATION Lyra ] ]'],
      ['top: Any jams?', '[IN:GET_INFO_TRAFFIC Any jams ? ]'],
    ],
  },
};
