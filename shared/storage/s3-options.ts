/** Address and credentials of an S3 server, from the variables that all AWS tools read. */
export interface S3Options {
  /** Of another server than Amazon's, e.g. `http://127.0.0.1:9000`. */
  readonly endpoint?: string;
  readonly region: string;
  /** Bucket in the path (MinIO, Ceph) rather than in the host name. */
  readonly pathStyle: boolean;
  /** Without them requests are anonymous. */
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  };
}

/**
 * AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_REGION or AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
 * AWS_SESSION_TOKEN. With another server than Amazon's the bucket is in the path, unless AWS_S3_VIRTUAL_HOST is `true`.
 */
export function s3OptionsOf(environment: Readonly<Record<string, string | undefined>>): S3Options {
  const of = (name: string) => (environment[name] === '' ? undefined : environment[name]);
  const endpoint = of('AWS_ENDPOINT_URL_S3') ?? of('AWS_ENDPOINT_URL');
  const accessKeyId = of('AWS_ACCESS_KEY_ID');
  const secretAccessKey = of('AWS_SECRET_ACCESS_KEY');
  const sessionToken = of('AWS_SESSION_TOKEN');
  return {
    region: of('AWS_REGION') ?? of('AWS_DEFAULT_REGION') ?? 'us-east-1',
    pathStyle: endpoint !== undefined && of('AWS_S3_VIRTUAL_HOST') !== 'true',
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(accessKeyId === undefined || secretAccessKey === undefined
      ? {}
      : {
          credentials: {
            accessKeyId,
            secretAccessKey,
            ...(sessionToken === undefined ? {} : { sessionToken }),
          },
        }),
  };
}
