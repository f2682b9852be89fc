/**
 * Host input and what is seen → the host's whole plan: files, then steps. Pure.
 */
import { BIN_DIR, networkSteps } from "../net/steps.ts";
import type { Seen } from "../net/seen.ts";
import { type HostInput, wantedNetwork } from "../net/wanted.ts";
import { ETC_DIR } from "../render/dnsmasq.ts";
import { renderFiles } from "../render/files.ts";
import { ifupdownEdits } from "../render/ifupdown.ts";
import { RESOLVED_DROP_IN } from "../render/resolver.ts";
import { MAIN_UNIT } from "../render/units.ts";
import type { Step, WantedFile } from "../step.ts";

/** What is seen on a host: the network, the files by path, and the reloads that an earlier run still owes. */
export interface SeenHost {
  readonly network: Seen;
  readonly files: ReadonlyMap<string, string | undefined>;
  readonly pending: ReadonlySet<Reload>;
  readonly enabled: boolean;
}

/** A service that has to be told when a file of its changes. */
export type Reload = keyof typeof RELOADS;

/** A host's plan. `before` comes between the files and the network's steps, `after` behind them. */
export interface HostPlan {
  readonly files: readonly WantedFile[];
  readonly reloads: readonly Reload[];
  readonly before: readonly Step[];
  readonly network: readonly Step[];
  readonly after: readonly Step[];
}

/**
 * Network managers start after `network-pre.target`, and that one after the very unit in which these steps run: where nothing else
 * has asked for the target yet (Debian 11), each would wait for the other.
 */
const AT_ONCE = "--job-mode=ignore-dependencies";

/** Which files concern whom, when it is told, and how. */
const RELOADS = {
  systemd: {
    concerns: (path: string) => path.startsWith("/etc/systemd/system/"),
    when: "before",
    step: { title: "reload systemd's units", argv: ["systemctl", "daemon-reload"] },
  },
  "dnsmasq-names": {
    concerns: (path: string) => path === `${ETC_DIR}/hosts`,
    when: "after",
    step: {
      title: "let dnsmasq read the names again",
      argv: ["systemctl", "kill", "--signal=HUP", "--kill-who=main", "mobula-dnsmasq.service"],
    },
  },
  "dnsmasq-settings": {
    concerns: (path: string) => path === `${ETC_DIR}/dnsmasq.conf`,
    when: "after",
    step: {
      title: "restart dnsmasq",
      argv: ["systemctl", "restart", "mobula-dnsmasq.service"],
      effect: "names at this gateway, under 1 s",
    },
  },
  paths: {
    concerns: (path: string) => path === `${BIN_DIR}/run-paths`,
    when: "after",
    step: { title: "restart mobula-paths", argv: ["systemctl", "restart", "mobula-paths.service"] },
  },
  networkd: {
    concerns: (path: string) => path.startsWith("/etc/systemd/network"),
    when: "after",
    step: {
      title: "restart systemd-networkd",
      argv: ["systemctl", AT_ONCE, "try-restart", "systemd-networkd.service"],
    },
  },
  NetworkManager: {
    concerns: (path: string) => path.startsWith("/etc/NetworkManager/"),
    when: "after",
    step: {
      title: "reload NetworkManager",
      argv: ["systemctl", AT_ONCE, "try-reload-or-restart", "NetworkManager.service"],
    },
  },
  resolved: {
    concerns: (path: string) => path === RESOLVED_DROP_IN,
    when: "after",
    step: {
      title: "restart systemd-resolved",
      argv: ["systemctl", "try-restart", "systemd-resolved.service"],
    },
  },
} as const;

/** All reloads, in the order in which they are done. */
export const ALL_RELOADS = Object.keys(RELOADS) as readonly Reload[];

/** The plan from what is seen to what is wanted; empty lists when nothing is to be done. */
export function planHost(input: HostInput, seen: SeenHost): HostPlan {
  const files = [...renderFiles(input), ...editedFiles(input, seen)]
    .filter(({ path, content }) => seen.files.get(path) !== content);
  const reloads = ALL_RELOADS.filter((name) =>
    seen.pending.has(name) || files.some(({ path }) => RELOADS[name].concerns(path))
  );
  const stepsWhen = (when: "before" | "after") =>
    reloads.filter((name) => RELOADS[name].when === when && isRunning(name, seen)).map((name) =>
      RELOADS[name].step
    );
  const enable = { title: `enable ${MAIN_UNIT}`, argv: ["systemctl", "enable", "--quiet", MAIN_UNIT] };
  return {
    files,
    reloads,
    before: [...stepsWhen("before"), ...(seen.enabled ? [] : [enable])],
    network: networkSteps(wantedNetwork(input), seen.network),
    after: stepsWhen("after"),
  };
}

/** Files of others, as they have to become; one that is gone stays gone. */
function editedFiles({ baseline }: HostInput, seen: SeenHost): WantedFile[] {
  return ifupdownEdits(baseline).flatMap(({ path, edit }) => {
    const text = seen.files.get(path);
    return text === undefined ? [] : [{ path, content: edit(text) }];
  });
}

/** What is only about to start reads its files anyway. */
function isRunning(name: Reload, seen: SeenHost): boolean {
  const unit = /^(dnsmasq|paths)/.exec(name)?.[1];
  return unit === undefined || seen.network.activeUnits.includes(`mobula-${unit}.service`);
}

/** Titles of everything the plan does, in order. */
export function planTitles(plan: HostPlan): string[] {
  return [
    ...plan.files.map(({ path }) => `write ${path}`),
    ...[...plan.before, ...plan.network, ...plan.after].map(({ title }) => title),
  ];
}
