import { defineConfig } from "vitest/config"

const conditions = ["@effect-realtime/source"]

export default defineConfig({
  resolve: { conditions: [...conditions, "module", "browser", "development|production"] },
  ssr: { resolve: { conditions: [...conditions, "module", "node", "development|production"] } },
  test: {
    reporters: ["default", "./test/support/summary-reporter.ts"],
    silent: "passed-only",
    maxWorkers: 2,
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
          name: "node",
          include: ["test/**/*.test.ts"],
          exclude: ["test/react/**", "test/browser/**"],
          environment: "node",
          testTimeout: 30_000,
          hookTimeout: 60_000
        }
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
