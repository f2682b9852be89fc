/**
 * What goes on while a host is struck. Data only.
 */
import { type Fault, FAULTS } from "./points.ts";

/** One host of three is struck, the other two must not notice. */
export const VICTIM = "beta";
export const BYSTANDERS = ["alpha", "gamma"] as const;

/** One course of events. */
export interface Scenario {
  readonly name: string;
  /** What goes on, for people. */
  readonly title: string;
  /** How the victim is when it begins. */
  readonly from: "installed" | "bare";
  /** `local`: the victim is installed by itself, without a deployer. */
  readonly run: "push" | "local";
  readonly faults: readonly Fault[];
  /** The deployer is killed at this line, so that the host goes back; only that is struck. */
  readonly abandonedAt?: string;
  readonly rotatesKeys?: boolean;
}

const WITHOUT_DEPLOYER = FAULTS.filter((fault) => fault !== "deployer");

/** All of them; in this order each but one begins where the one before has led. */
export const SCENARIOS: readonly Scenario[] = [
  {
    name: "back to bare",
    title: "the way back to the network of before",
    from: "bare",
    run: "push",
    faults: WITHOUT_DEPLOYER,
    abandonedAt: `${VICTIM}: verify all pairs`,
  },
  { name: "install", title: "a push to a new host", from: "bare", run: "push", faults: FAULTS },
  {
    name: "local",
    title: "install --local on a new host",
    from: "bare",
    run: "local",
    faults: WITHOUT_DEPLOYER,
  },
  { name: "update", title: "a push with changed settings", from: "installed", run: "push", faults: FAULTS },
  {
    name: "rotation",
    title: "a push with new keys",
    from: "installed",
    run: "push",
    faults: FAULTS,
    rotatesKeys: true,
  },
  {
    name: "back",
    title: "the way back to the generation before",
    from: "installed",
    run: "push",
    faults: WITHOUT_DEPLOYER,
    abandonedAt: `${VICTIM}: verify all pairs`,
  },
];
