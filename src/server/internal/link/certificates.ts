/**
 * Validates certificates and keys before anything connects. `node:tls` finds their faults only after the
 * server has answered, and then throws in a callback of the socket, where the error cannot be caught.
 */
import { X509Certificate } from "node:crypto"
import { errorText } from "../../../internal/errorText.ts"
import {
  type ConnectionOptions,
  createSecureContext,
  DEFAULT_MAX_VERSION,
  DEFAULT_MIN_VERSION
} from "node:tls"

/** What is wrong with a file or a range of versions, and how to fix it. */
export interface Fault {
  readonly reason: string
  readonly cure: string
}

/** The certificates and keys of a session, with the password of its key. */
export interface Files {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
  readonly passphrase?: string | undefined
}

/** As `node:tls` finds them. It ignores all other text. */
const certificates =
  /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^]*?-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g

const codeOf = (error: unknown): string =>
  (error as { readonly code?: string }).code ?? errorText(error)

const thrownBy = (act: () => unknown): string | undefined => {
  try {
    act()
    return undefined
  } catch (error) {
    return codeOf(error)
  }
}

/** Validates the authorities. From a file without one, `node:tls` would trust no server without a reason. */
const authorityFault = (text: string): Fault | undefined => {
  const cure = "Give the certificates of the authorities as PEM"
  const found = text.match(certificates) ?? []
  if (found.length === 0) return { reason: "names a sslrootcert that holds no certificate", cure }
  for (const [index, one] of found.entries()) {
    const code = thrownBy(() => new X509Certificate(one))
    if (code === undefined) continue
    return {
      reason: `names a sslrootcert whose certificate ${index + 1} cannot be read (${code})`,
      cure
    }
  }
  return undefined
}

/** Validates the client's certificate and key. */
const ownFault = ({ cert, key, passphrase }: Files): Fault | undefined => {
  const certFault = thrownBy(() => createSecureContext({ cert }))
  if (certFault !== undefined) {
    return {
      reason: `names a sslcert that cannot be read (${certFault})`,
      cure: "Give the client's certificate as PEM"
    }
  }
  const keyFault = thrownBy(() => createSecureContext({ cert, key, passphrase }))
  if (keyFault === undefined) return undefined
  if (keyFault === "ERR_OSSL_X509_KEY_VALUES_MISMATCH") {
    return {
      reason: "names a sslkey that is not the key of its sslcert",
      cure: "Give the two that were made together"
    }
  }
  if (!/ENCRYPTED/.test(key ?? "")) {
    return {
      reason: `names a sslkey that cannot be read (${keyFault})`,
      cure: "Give the client's key as PEM"
    }
  }
  return passphrase === undefined
    ? { reason: "names a sslkey that is encrypted", cure: "Give its password as sslpassword" }
    : {
        reason: `has a sslpassword that does not open its sslkey (${keyFault})`,
        cure: "Give the password of the key, with special characters percent-encoded"
      }
}

export const fileFault = (files: Files): Fault | undefined =>
  (files.ca === undefined ? undefined : authorityFault(files.ca)) ??
  (files.cert === undefined ? undefined : ownFault(files))

/** Validates the `ssl` option that the application gives beside the URL. */
export const optionFault = (options: ConnectionOptions): Fault | undefined => {
  if (options.secureContext !== undefined) return undefined
  const code = thrownBy(() => createSecureContext(options))
  return code === undefined
    ? undefined
    : {
        reason: `has an option ssl that cannot be used (${code})`,
        cure: "Give it a certificate with its key, as PEM, and the passphrase where the key has one"
      }
}

/** A missing end of the range has Node's default. OpenSSL would fail only at the first handshake. */
export const versionFault = ({ maxVersion, minVersion }: ConnectionOptions): Fault | undefined => {
  const [least, most] = [minVersion ?? DEFAULT_MIN_VERSION, maxVersion ?? DEFAULT_MAX_VERSION]
  return least <= most
    ? undefined
    : {
        reason: `allows no version of TLS: at least ${least}, at most ${most}`,
        cure: "Correct ssl_min_protocol_version and ssl_max_protocol_version, or take both out"
      }
}
