/**
 * First bytes of a file → its kind, whatever its name says. The only place that knows magic numbers; sources of every
 * format and tokenizers ask it. Pure.
 *
 * Definition: the *head* is the first HEAD_BYTES of a file, or the whole file. Kinds are read (compressed, UTF-16, CR
 * line ends, JSON values over several lines) or refused with a remedy. Anything else is `other`: it may be right.
 * Sources: RFC 1952 (gzip), 1950 (zlib), 8878 (zstd); the formats' own pages for other magic numbers.
 */
import { constants, inflateSync } from 'node:zlib';
import { findJsonEnd } from './json-text.ts';
import { maskedCrc32c } from './tfrecord/crc32c.ts';

/** So many first bytes decide. */
export const HEAD_BYTES = 64 * 1024;
/** So many bytes of a longer file must inflate. */
const ZLIB_PROOF_BYTES = 4096;

/** Kinds that are decoded on the way, as streams. */
export type EncodedKind = 'gzip' | 'zlib' | 'zstd' | 'utf-16le' | 'utf-16be';
/** Kinds that are refused. */
export type RefusedKind = keyof typeof REFUSED;
export type ContentKind = EncodedKind | RefusedKind | 'parquet' | 'tfrecord' | 'other';

/** What a refused kind is, and what to do. */
const REFUSED = {
  'git-lfs': ['a pointer of git-LFS, not the file', 'run "git lfs pull" in its repository'],
  html: ['a page of HTML', 'a server may have sent a login, warning or error page: download the file and look at it'],
  xml: ['an XML document', 'a server may have sent an error: look at it, or extract its text first'],
  bzip2: ['data compressed by bzip2', 'unpack it with "bunzip2", or compress it with gzip or zstd'],
  xz: ['data compressed by xz', 'unpack it with "unxz", or compress it with gzip or zstd'],
  lzip: ['data compressed by lzip', 'unpack it with "lzip -d", or compress it with gzip or zstd'],
  lz4: ['data compressed by lz4', 'unpack it with "unlz4", or compress it with gzip or zstd'],
  snappy: ['data compressed by snappy', 'unpack it, or compress it with gzip or zstd'],
  compress: ['data compressed by compress (.Z)', 'unpack it with "gunzip", or compress it with gzip or zstd'],
  zip: ['a zip archive', 'unpack it with "unzip" and name the files in it; a workbook of Excel: save it as CSV'],
  '7z': ['a 7z archive', 'unpack it with "7z x" and name the files in it'],
  rar: ['a rar archive', 'unpack it with "unrar x" and name the files in it'],
  tar: ['a tar archive', 'unpack it with "tar -xf" and name the files in it'],
  'utf-32': ['text in UTF-32', 'convert it: iconv -f UTF-32 -t UTF-8'],
  'utf-16le without a mark': ['text in UTF-16 without a byte-order mark', 'convert it: iconv -f UTF-16LE -t UTF-8'],
  'utf-16be without a mark': ['text in UTF-16 without a byte-order mark', 'convert it: iconv -f UTF-16BE -t UTF-8'],
  pdf: ['a PDF document', 'extract its text first'],
  excel: ['a workbook of Excel (.xls)', 'save it as CSV'],
  arrow: ['an Arrow file', 'write it as parquet'],
  orc: ['an ORC file', 'write it as parquet'],
  avro: ['an Avro file', 'write it as parquet'],
  hdf5: ['an HDF5 file', 'write it as parquet'],
  numpy: ['a NumPy array', 'write it as parquet or jsonl'],
  sqlite: ['an SQLite database', 'export its tables as CSV'],
} as const satisfies Record<string, readonly [what: string, remedy: string]>;

/** Magic numbers as bytes at the start. */
const MAGIC: readonly (readonly [ContentKind, readonly number[] | string])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['lz4', [0x04, 0x22, 0x4d, 0x18]],
  ['snappy', [0xff, 0x06, 0x00, 0x00, 0x73, 0x4e, 0x61, 0x50, 0x70, 0x59]],
  ['compress', [0x1f, 0x9d]],
  ['compress', [0x1f, 0xa0]],
  ['zip', 'PK\x03\x04'],
  ['zip', 'PK\x05\x06'],
  ['7z', [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]],
  ['rar', 'Rar!\x1a\x07'],
  ['lzip', 'LZIP\x01'],
  ['utf-32', [0xff, 0xfe, 0x00, 0x00]],
  ['utf-32', [0x00, 0x00, 0xfe, 0xff]],
  ['utf-16le', [0xff, 0xfe]],
  ['utf-16be', [0xfe, 0xff]],
  ['parquet', 'PAR1'],
  ['parquet', 'PARE'],
  ['pdf', '%PDF-'],
  ['excel', [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]],
  ['arrow', 'ARROW1'],
  ['arrow', 'FEA1'],
  ['orc', 'ORC\b'],
  ['avro', 'Obj\x01'],
  ['hdf5', [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]],
  ['numpy', [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]],
  ['sqlite', 'SQLite format 3\0'],
];

/** What follows `BZh9`: π for a block, √π for the end of an empty file. */
const BZIP2_BLOCKS = ['314159265359', '177245385090'];

/** The kind of a file by its head. */
export function identifyContent(head: Uint8Array): ContentKind {
  // A TFRecord starts with a length, which may look like any magic number; its checksum cannot.
  if (isTfrecord(head)) return 'tfrecord';
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  for (const [kind, magic] of MAGIC) {
    const expected = typeof magic === 'string' ? Buffer.from(magic, 'latin1') : Buffer.from(magic);
    if (bytes.subarray(0, expected.length).equals(expected)) return kind;
  }
  if (isSkippableZstd(bytes)) return 'zstd';
  const start = bytes.toString('latin1', 0, 1024);
  if (/^BZh[1-9]/u.test(start) && BZIP2_BLOCKS.some((block) => bytes.toString('hex', 4, 10) === block)) return 'bzip2';
  if (start.startsWith('version https://git-lfs.github.com/spec/')) return 'git-lfs';
  if (bytes.toString('latin1', 257, 262) === 'ustar') return 'tar';
  if (isZlib(bytes)) return 'zlib';
  const unmarked = start.replace(/^\xef\xbb\xbf/u, '').trimStart();
  if (
    /^(?:<!--[^]*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype\s+html|html|head|body|script|title|meta|link|style|div|h1|center)[\s>]/iu.test(
      unmarked,
    )
  )
    return 'html';
  if (/^<\?xml\s|^<Error>\s*<Code>/iu.test(unmarked)) return 'xml';
  return findUtf16(bytes) ?? 'other';
}

/** `a page of HTML`. */
export function describeRefused(kind: RefusedKind): { readonly what: string; readonly remedy: string } {
  const [what, remedy] = REFUSED[kind];
  return { what, remedy };
}

export function isRefused(kind: string): kind is RefusedKind {
  return Object.hasOwn(REFUSED, kind);
}

export type LineFormat = 'jsonl' | 'text' | 'csv' | 'tsv';

/** How text is laid out in a file that is not encoded. */
export type TextLayout =
  | 'lines'
  /** Each carriage return ends a line, as Excel for Mac writes. */
  | 'cr-lines'
  /** JSON values over several lines, or an array of them. */
  | 'json-values';

/** @param head of decoded text */
export function identifyLayout(head: Uint8Array, format: LineFormat): TextLayout {
  const isWhole = isWholeFile(head);
  const text = new TextDecoder().decode(head, { stream: !isWhole });
  const lineFeed = text.indexOf('\n');
  const firstLine = lineFeed === -1 ? text : text.slice(0, lineFeed);
  const isTable = format === 'csv' || format === 'tsv';
  // A header holds no carriage return. In other text one may be in a line, so no line feed may be near.
  if (
    (isTable ? !firstLine.includes('"') || lineFeed === -1 : lineFeed === -1) &&
    /\r[^]/u.test(firstLine.replace(/\r$/u, ''))
  )
    return 'cr-lines';
  return format === 'jsonl' && isJsonValues(text, isWhole) ? 'json-values' : 'lines';
}

/** Whether JSON goes over line ends, or is an array of all rows. One wrong line at the start of JSONL is neither. */
function isJsonValues(text: string, isWhole: boolean): boolean {
  const from = text.search(/\S/u);
  const first = text[from];
  if (first !== '{' && first !== '[') return false;
  const value = text.slice(from);
  const lineFeed = value.indexOf('\n');
  const start = findJsonEnd(value);
  if (first === '[') {
    if (start.state === 'whole') return isWhole && value.slice(start.end).trim() === '';
    if (start.state === 'cut') return true;
    const goesOn = lineFeed === -1 || start.at > lineFeed || /[,[{:]\s*$/u.test(value.slice(0, lineFeed));
    return goesOn && /^\[\s*[{[]/u.test(value);
  }
  if (lineFeed === -1) return false;
  if (start.state === 'whole') return start.end > lineFeed;
  if (start.state === 'cut') return !isWhole || /^\{\s*\n/u.test(value);
  return /^\{[ \t]*\r?\n/u.test(value) && start.at > lineFeed;
}

function isWholeFile(head: Uint8Array): boolean {
  return head.length < HEAD_BYTES;
}

/** The first 12 bytes: a length and its masked CRC-32C. */
function isTfrecord(head: Uint8Array): boolean {
  if (head.length < 12) return false;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return maskedCrc32c(head.subarray(0, 8)) === view.getUint32(8, true);
}

/** A frame that decoders skip: 0x184D2A50 … 0x184D2A5F. pzstd starts with one. */
function isSkippableZstd(bytes: Buffer): boolean {
  return bytes.length >= 8 && (bytes.readUInt32LE(0) & 0xfffffff0) >>> 0 === 0x184d2a50;
}

/** The two bytes of zlib may also start a text (`x^2`), so the data must inflate as well. */
function isZlib(bytes: Buffer): boolean {
  if (bytes.length < 8 || (bytes[0]! & 0x0f) !== 8 || bytes[0]! >> 4 > 7) return false;
  if (bytes.readUInt16BE(0) % 31 !== 0 || (bytes[1]! & 0x20) !== 0) return false;
  try {
    if (isWholeFile(bytes)) inflateSync(bytes);
    else inflateSync(bytes.subarray(0, ZLIB_PROOF_BYTES), { finishFlush: constants.Z_SYNC_FLUSH });
    return true;
  } catch {
    return false;
  }
}

/** UTF-16 of mostly Latin text without a mark: every other byte is 0, and no byte between them. */
function findUtf16(bytes: Buffer): ContentKind | undefined {
  const end = Math.min(512, bytes.length & ~1);
  if (end < 4) return undefined;
  let numEven = 0;
  let numOdd = 0;
  for (let i = 0; i < end; i += 2) {
    numEven += Number(bytes[i] === 0);
    numOdd += Number(bytes[i + 1] === 0);
  }
  if (numEven === 0 && numOdd > (end / 2) * 0.9) return 'utf-16le without a mark';
  return numOdd === 0 && numEven > (end / 2) * 0.9 ? 'utf-16be without a mark' : undefined;
}
