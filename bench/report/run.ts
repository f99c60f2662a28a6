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

export interface Run {
  readonly machine: Machine
  readonly sections: ReadonlyArray<Section>
  readonly curves: ReadonlyArray<Curve>
  readonly failures: ReadonlyArray<Failure>
  readonly minutes: number
}
