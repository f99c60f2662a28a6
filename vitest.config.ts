import { defineConfig } from "vitest/config"
import LongestFirst from "./test/support/sequencer.ts"

const conditions = ["@effect-realtime/source"]

/** These measure the memory of their process, or say that it runs on another platform. */
const alone = [
  "test/server/internal/door/admission.test.ts",
  "test/server/internal/door/attach.test.ts",
  "test/server/internal/hub/hub.test.ts",
  "test/server/internal/ring.test.ts",
  "test/testing/EmbeddedPostgres.test.ts"
]

const node = { environment: "node", testTimeout: 30_000, hookTimeout: 60_000 } as const

export default defineConfig({
  resolve: { conditions: [...conditions, "module", "browser", "development|production"] },
  ssr: { resolve: { conditions: [...conditions, "module", "node", "development|production"] } },
  test: {
    reporters: ["default", "./test/support/summary-reporter.ts"],
    silent: "passed-only",
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    globalSetup: "./test/support/global-setup.ts",
    coverage: {
      provider: "v8",
      include: ["src/**/*.ts", "src/**/*.tsx"],
      reporter: ["text", "html"]
    },
    projects: [
      {
        extends: true,
        test: {
          ...node,
          name: "node",
          include: ["test/**/*.test.ts"],
          exclude: ["test/react/**", "test/browser/**", ...alone],
          // A worker loads effect and the sources once, and not for each of its files.
          isolate: false
        }
      },
      {
        extends: true,
        test: { ...node, name: "alone", include: alone }
      },
      {
        extends: true,
        test: {
          name: "react",
          include: ["test/react/**/*.test.tsx"],
          environment: "happy-dom",
          testTimeout: 15_000
        }
      },
      {
        extends: true,
        test: {
          name: "browser",
          include: ["test/browser/**/*.test.ts"],
          environment: "node",
          testTimeout: 60_000,
          hookTimeout: 60_000
        }
      }
    ]
  }
})
