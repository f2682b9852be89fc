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
  return `${HEADER}\n${steps.map((step) => `${commandLine(step)}\n`).join("")}`;
}

/** No word of these steps needs quoting: names, numbers and addresses of ours. */
function commandLine({ argv, namespace }: Step): string {
  const [program, ...rest] = argv;
  if (namespace === undefined) return argv.join(" ");
  return program === "ip"
    ? ["ip", "-n", namespace, ...rest].join(" ")
    : `ip netns exec ${namespace} ${argv.join(" ")}`;
}
