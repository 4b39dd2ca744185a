/** Stands in place of the path of a tokenizer: the vocabulary of bytes (ByT5), which has no file. */
export const BYTE_VOCABULARY = 'bytes';
