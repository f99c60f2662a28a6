/**
 * Everything one run found out.
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

/** What was asked for, and what of it could be had. */
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
