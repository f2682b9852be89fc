/**
 * What a host's switch has forgotten after a restart, apart from its flows, as a small shell script. Pure.
 */
import { LINK } from "../net/network.ts";
import { freshLinkSteps } from "../net/steps.ts";
import { tunnelSteps } from "../net/switch.ts";
import { type HostInput, switchTunnel, wantedLinks } from "../net/wanted.ts";
import type { Step } from "../step.ts";
import { HEADER } from "./header.ts";

/** Links that Open vSwitch makes itself come back without addresses; its tunnels, in userspace mode, without a route. */
const MADE_BY_SWITCH: readonly string[] = [LINK.switch, LINK.underlayBridge];

/** The script; each line may be run again. */
export function renderRestore(input: HostInput): string {
  const links = wantedLinks(input).filter(({ name, kind }) =>
    kind === "foreign" && MADE_BY_SWITCH.includes(name)
  );
  const tunnel = input.capabilities.datapath === "netdev" ? switchTunnel(input.config.self) : undefined;
  const steps = [...links.flatMap(freshLinkSteps), ...tunnelSteps(tunnel, undefined)];
  return `${HEADER}\n${runsOf(steps).map((run) => `${commandLine(run)}\n`).join("")}`;
}

/** Steps that follow each other and one process can do: each start of one costs time in which nothing is carried. */
function runsOf(steps: readonly Step[]): (readonly Step[])[] {
  const runs: Step[][] = [];
  for (const step of steps) {
    const last = runs.at(-1);
    const fits = last !== undefined && isIp(last[0]!) && isIp(step) && last[0]!.namespace === step.namespace;
    if (fits) last.push(step);
    else runs.push([step]);
  }
  return runs;
}

function isIp({ argv }: Step): boolean {
  return argv[0] === "ip";
}

/** No word of these steps needs quoting: names, numbers and addresses of ours. */
function commandLine(steps: readonly Step[]): string {
  const { argv, namespace } = steps[0]!;
  if (isIp(steps[0]!)) {
    const ip = namespace === undefined ? "ip" : `ip -n ${namespace}`;
    return `${ip} -batch - <<END\n${steps.map((step) => step.argv.slice(1).join(" ")).join("\n")}\nEND`;
  }
  return namespace === undefined ? argv.join(" ") : `ip netns exec ${namespace} ${argv.join(" ")}`;
}
