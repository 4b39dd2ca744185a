/** A file of a model folder that is no tensor and no record: copied from a source, or written from a text. */
export type ExtraFile =
  { readonly name: string; readonly source: string } | { readonly name: string; readonly text: string };
