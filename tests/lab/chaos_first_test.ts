/**
 * Fault injection at a spread of the steps of a push, a local installation and a rollback, first half of those of each run. `deno task
 * chaos` injects at all steps. Needs root and the lab's packages.
 */
import { declareChaos } from "../chaos/declare.ts";

declareChaos("first");
