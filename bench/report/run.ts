/**
 * All results of one run.
 */
import type { Curve } from "../measure/growth.ts"
import type { Cost, Failure, Result } from "../measure/result.ts"
import type { Machine } from "./machine.ts"

export interface Section {
  readonly workload: string
  readonly title: string
  readonly costs: ReadonlyArray<Cost>
  readonly results: ReadonlyArray<Result>
}

/** How the run was made, and which subjects were missing. */
export interface How {
  readonly command: string
  /** Of one window. */
  readonly seconds: number
  readonly pairs: number
  readonly workloads: ReadonlyArray<string>
  /** Peers that are not installed. */
  readonly absent: ReadonlyArray<string>
}

export interface Run {
  readonly machine: Machine
  readonly how: How
  readonly sections: ReadonlyArray<Section>
  readonly curves: ReadonlyArray<Curve>
  readonly failures: ReadonlyArray<Failure>
  readonly minutes: number
}
