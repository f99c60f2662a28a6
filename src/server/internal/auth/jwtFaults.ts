/** Why a JSON Web Token is not valid, for the log of the server: the kind of fault and its cure, nothing of the token. */
import {
  JOSEAlgNotAllowed,
  JWKSNoMatchingKey,
  JWSSignatureVerificationFailed,
  JWTClaimValidationFailed
} from "jose/errors"

/** Of a token that lacks a claim. */
export const missingClaim = (claim: string): string =>
  `It has no claim "${claim}". Let the issuer of the token set it`

const compared: Readonly<Record<string, string>> = {
  iss: "issuer",
  aud: "audience"
}

const claimFault = ({ claim, reason }: JWTClaimValidationFailed): string => {
  if (reason === "missing") return missingClaim(claim)
  if (claim in compared) {
    return `Its claim "${claim}" has no value that this server accepts. Compare the ${compared[claim]}`
  }
  return claim === "nbf"
    ? `It is not valid yet (claim "nbf"). Compare the clocks of the issuer and of this server`
    : `Its claim "${claim}" is not one that can be used. Compare it with those of a token that is accepted`
}

/** Of an error of `jose`. */
export const whyInvalid = (error: unknown): string => {
  if (error instanceof JWTClaimValidationFailed) return claimFault(error)
  if (error instanceof JWSSignatureVerificationFailed) {
    return "Its signature does not fit the key. Compare the secret or the key of the issuer with that of this server"
  }
  if (error instanceof JOSEAlgNotAllowed) {
    return "Its algorithm (alg) is not one that this server accepts for its key. Let the issuer sign with another"
  }
  if (error instanceof JWKSNoMatchingKey) {
    return "The key set has no key for it. Compare the address of the key set with the issuer of the token"
  }
  return "It is no signed JSON Web Token, or it has no key here. Compare what the client sends with what the issuer made"
}
