/** Address and credentials of an S3 server, from the variables that all AWS tools read. */
import { TrainerError } from '../errors.ts';

export interface S3Options {
  /** Of another server than Amazon's, e.g. `http://127.0.0.1:9000`. */
  readonly endpoint?: string;
  readonly region: string;
  /** Bucket in the path (MinIO, Ceph) rather than in the host name. A bucket whose name is no host label is always in the path. */
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
 * @throws CONFIG_INVALID for an endpoint that is no http: or https: URL, a malformed region, half of the credentials
 */
export function s3OptionsOf(environment: Readonly<Record<string, string | undefined>>): S3Options {
  const of = (name: string) => (environment[name] === '' ? undefined : environment[name]);
  const firstOf = (names: readonly string[]) => names.find((name) => of(name) !== undefined);
  const endpointName = firstOf(['AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL']);
  const endpoint = endpointName === undefined ? undefined : checkEndpoint(endpointName, of(endpointName)!);
  const regionName = firstOf(['AWS_REGION', 'AWS_DEFAULT_REGION']);
  const region = regionName === undefined ? 'us-east-1' : of(regionName)!;
  if (!isRegion(region))
    throw new TrainerError(
      'CONFIG_INVALID',
      `${regionName ?? ''}: expected a region like eu-west-1, found ${JSON.stringify(region)}`,
    );
  const accessKeyId = of('AWS_ACCESS_KEY_ID');
  const secretAccessKey = of('AWS_SECRET_ACCESS_KEY');
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined)) {
    const [set, missing] =
      accessKeyId === undefined
        ? ['AWS_SECRET_ACCESS_KEY', 'AWS_ACCESS_KEY_ID']
        : ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];
    throw new TrainerError(
      'CONFIG_INVALID',
      `${set} is set, but ${missing} is not: set both, or neither for a public bucket`,
    );
  }
  const sessionToken = of('AWS_SESSION_TOKEN');
  return {
    region,
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

function checkEndpoint(name: string, value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const isUsable = url !== undefined && ['http:', 'https:'].includes(url.protocol);
  if (isUsable && url.search === '' && url.hash === '' && url.username === '') return value;
  // `localhost:9000` parses as a URL with the scheme `localhost:`.
  const isBare = /^[\w.-]+(:\d+)?(\/.*)?$/u.test(value);
  throw new TrainerError(
    'CONFIG_INVALID',
    `${name}: expected a URL that starts with http:// or https://, without user and query, ` +
      (isBare ? `found ${value}; write http://${value} or https://${value}` : `found ${url?.protocol ?? 'no URL'}`),
  );
}

/** Whether it is safe in a host name. */
export function isRegion(region: string): boolean {
  return /^[a-z0-9][a-z0-9-]{0,62}$/u.test(region);
}

/** Names of Amazon's partitions, by the first part of their regions. Source: partitions.json of botocore. */
const SUFFIXES: Readonly<Record<string, string>> = {
  'cn-': 'amazonaws.com.cn',
  'us-iso-': 'c2s.ic.gov',
  'us-isob-': 'sc2s.sgov.gov',
  'us-isof-': 'csp.hci.ic.gov',
  'eu-isoe-': 'cloud.adc-e.uk',
  'eusc-': 'amazonaws.eu',
};

/** Amazon's own endpoint of a region. */
export function amazonEndpoint(region: string): string {
  const [, suffix = 'amazonaws.com'] = Object.entries(SUFFIXES).find(([start]) => region.startsWith(start)) ?? [];
  return `https://s3.${region}.${suffix}`;
}
