/**
 * Looks at the live host: runs the read-only script and reads the files that the plan concerns.
 */
import type { Baseline, Policy } from "../facts.ts";
import {
  LOADED_FILES,
  lookScript,
  parseModes,
  parseSeen,
  parseSeenWireguard,
  type Seen,
  WIREGUARD_SCRIPT,
} from "../net/seen.ts";
import type { HostInput } from "../net/wanted.ts";
import { DNSMASQ_LOCAL, DNSMASQ_PROFILE } from "../render/apparmor.ts";
import { ifupdownEdits } from "../render/ifupdown.ts";
import { MAIN_UNIT, UNIT_DIR } from "../render/units.ts";
import { pause } from "../pause.ts";
import type { Runner } from "../step.ts";
import { parsePolicy, POLICY_SCRIPT } from "./baseline.ts";
import { OUR_UNITS } from "./leave.ts";
import { PENDING_DIR } from "./paths.ts";
import { ALL_RELOADS, modesOf, type Reload, type SeenHost, type WantedHost, wantedHost } from "./plan.ts";
import { runStep } from "./run_steps.ts";

/** How often a look is repeated where the daemon of the paths is changing an interval, and milliseconds in between. */
const REPEATS = 5;
const REST = 200;

/** What is live on the host, as far as the plan for `input` needs it. */
export async function lookAtHost(
  runner: Runner,
  input: HostInput,
  wanted: WantedHost = wantedHost(input),
): Promise<SeenHost> {
  let seen = await lookOnce(runner, input, wanted);
  for (let repeat = 0; repeat < REPEATS && changesInterval(seen.network); repeat++) {
    await pause(REST);
    seen = await lookOnce(runner, input, wanted);
  }
  return seen;
}

/** The WireGuard device alone, which is a tenth of the work of a whole look; undefined where there is none. */
export async function lookAtWireguard(runner: Runner): Promise<Seen["wireguard"]> {
  const output = await runStep(runner, {
    title: "look at WireGuard",
    argv: ["sh", "-s"],
    stdin: WIREGUARD_SCRIPT,
    namespace: "mobula",
  });
  return parseSeenWireguard(output);
}

/**
 * Whether a path has another BFD interval for sending than for receiving. The daemon of the paths changes the first for some
 * milliseconds (`run-paths`); where it stays different, somebody has set it by hand.
 */
function changesInterval({ switch: live }: SeenHost["network"]): boolean {
  return live?.interfaces.some(({ columns }) => columns["bfd:min_tx"] !== columns["bfd:min_rx"]) ?? false;
}

async function lookOnce(
  runner: Runner,
  input: HostInput,
  { files, network: { sysctls, units } }: WantedHost,
): Promise<SeenHost> {
  const script = lookScript(sysctls, units, modesOf(input, files).map(({ path }) => path));
  const paths = [
    ...[...files, ...ifupdownEdits(input.baseline)].map(({ path }) => path),
    ...[DNSMASQ_PROFILE, DNSMASQ_LOCAL],
    ...ALL_RELOADS.map(pendingFile),
    ENABLED_LINK,
    ...LOADED_FILES,
  ];
  const [output, texts] = await Promise.all([
    runStep(runner, { title: "look at the network", argv: ["sh", "-s"], stdin: script }),
    runner.readFiles(paths),
  ]);
  return {
    network: parseSeen(output, units, texts),
    files: texts,
    modes: parseModes(output),
    pending: new Set(ALL_RELOADS.filter((name) => texts.get(pendingFile(name)) !== undefined)),
    enabled: texts.get(ENABLED_LINK) !== undefined,
  };
}

/** What `systemctl enable` makes. */
const ENABLED_LINK = `${UNIT_DIR}/multi-user.target.wants/${MAIN_UNIT}`;

function pendingFile(name: Reload): string {
  return `${PENDING_DIR}/${name}`;
}

/** What the way back to the baseline has to know: our links and daemons, and the host's own rules and routes. */
export async function lookAround(
  baseline: Baseline,
  runner: Runner,
): Promise<{ readonly seen: Seen; readonly policy: Policy }> {
  const stdin = `PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH LC_ALL=C\n${POLICY_SCRIPT}${
    lookScript([], OUR_UNITS)
  }`;
  const output = await runStep(runner, { title: "look at the network", argv: ["sh", "-s"], stdin });
  return { seen: parseSeen(output, OUR_UNITS), policy: parsePolicy(output, baseline.interface) };
}
