/**
 * The answers of the health routes, the same for every server.
 *
 * In: whether the node is ready. Out: a status and a body of JSON, without names or errors.
 */
export interface HealthAnswer {
  readonly status: 200 | 503
  readonly body: { readonly status: "ready" | "not ready" | "live" }
}

/** For a balancer. */
export const readiness = (isReady: boolean): HealthAnswer =>
  isReady
    ? { status: 200, body: { status: "ready" } }
    : { status: 503, body: { status: "not ready" } }

/** For what restarts a process. */
export const liveness: HealthAnswer = { status: 200, body: { status: "live" } }
