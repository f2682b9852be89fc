/**
 * Host input and what is seen → the host's whole plan: files, then steps. Pure.
 */
import { isKey } from "../keys.ts";
import type { Network } from "../net/network.ts";
import { BIN_DIR, networkSteps } from "../net/steps.ts";
import type { Seen, SeenMode } from "../net/seen.ts";
import { type HostInput, wantedNetwork } from "../net/wanted.ts";
import { keyFile } from "../net/wireguard.ts";
import { ETC_DIR } from "../render/dnsmasq.ts";
import { apparmorFiles, DNSMASQ_LOCAL, RELOAD_PROFILE } from "../render/apparmor.ts";
import { renderFiles } from "../render/files.ts";
import { ifupdownEdits } from "../render/ifupdown.ts";
import { RESOLVED_DROP_IN } from "../render/resolver.ts";
import { RELOAD_UDEV, UDEV_RULES } from "../render/udev.ts";
import { MAIN_UNIT, UNIT_DIR } from "../render/units.ts";
import type { Step, WantedFile } from "../step.ts";
import { EXECUTABLE } from "./paths.ts";

/** What is seen on a host: the network, the files by path, and the reloads that an earlier run still owes. */
export interface SeenHost {
  readonly network: Seen;
  readonly files: ReadonlyMap<string, string | undefined>;
  /** Of those of our files that are there. */
  readonly modes: ReadonlyMap<string, SeenMode>;
  readonly pending: ReadonlySet<Reload>;
  readonly enabled: boolean;
}

/** What is wanted on a host: computed once for a look and the plan that follows. */
export interface WantedHost {
  /** Sorted by path. */
  readonly files: readonly WantedFile[];
  readonly network: Network;
}

/** Renders the files and computes the network. */
export function wantedHost(input: HostInput): WantedHost {
  return { files: renderFiles(input), network: wantedNetwork(input) };
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

/** Before systemd 244 there is no reload. */
const RELOAD_NETWORKD = `systemctl --quiet is-active systemd-networkd.service || exit 0
networkctl reload 2>/dev/null || systemctl ${AT_ONCE} try-restart systemd-networkd.service`;

/**
 * Takes the names of units. A reload reads all units of the system and starts all generators; systemd itself says whether it has to: a
 * unit that it has not met before it finds by itself, unless it looked for it in vain before.
 */
const RELOAD_UNITS = `told=$(systemctl show --property=LoadState,NeedDaemonReload -- "$@") || told=
case $told in
  '' | *LoadState=[!l]* | *NeedDaemonReload=yes*) exec systemctl daemon-reload ;;
esac`;

/** Which files concern whom, when it is told, and how. */
const RELOADS = {
  systemd: {
    concerns: (path: string) => path.startsWith(`${UNIT_DIR}/`),
    when: "before",
    step: { title: "reload systemd's units", argv: ["sh", "-c", RELOAD_UNITS, "sh"] },
  },
  udev: {
    concerns: (path: string) => path.startsWith(`${UDEV_RULES}/`),
    when: "before",
    step: { title: "reload udev's rules", argv: ["sh", "-c", RELOAD_UDEV] },
  },
  apparmor: {
    concerns: (path: string) => path === DNSMASQ_LOCAL,
    when: "before",
    step: { title: "reload dnsmasq's AppArmor profile", argv: ["sh", "-c", RELOAD_PROFILE] },
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
    step: {
      title: "restart mobula-paths",
      argv: ["systemctl", "restart", "mobula-paths.service"],
      effect: "the intrawire to a host whose path dies at this moment, about 1 s",
    },
  },
  egress: {
    concerns: (path: string) => path === `${BIN_DIR}/run-egress`,
    when: "after",
    step: {
      title: "restart mobula-egress",
      argv: ["systemctl", "restart", "mobula-egress.service"],
      effect: "default traffic that leaves by another host, about 1 s",
    },
  },
  networkd: {
    // It reads its own settings only when it starts.
    concerns: (path: string) => path.startsWith("/etc/systemd/networkd.conf.d/"),
    when: "after",
    step: {
      title: "restart systemd-networkd",
      // Not waited for: it manages none of our links, and its start takes longer than most activations.
      argv: ["systemctl", AT_ONCE, "--no-block", "try-restart", "systemd-networkd.service"],
      effect: "links that systemd-networkd configures, about 1 s",
    },
  },
  "networkd-links": {
    concerns: (path: string) => path.startsWith("/etc/systemd/network/"),
    when: "after",
    step: {
      title: "reload systemd-networkd",
      argv: ["sh", "-c", RELOAD_NETWORKD],
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
      effect: "names on this host, under 1 s",
    },
  },
} as const;

/** All reloads, in the order in which they are done. */
export const ALL_RELOADS = Object.keys(RELOADS) as readonly Reload[];

/**
 * The plan from what is seen to what is wanted; empty lists when nothing is to be done. Files of `left` are left as they are, and nobody is
 * told to read them.
 */
export function planHost(
  input: HostInput,
  seen: SeenHost,
  wanted = wantedHost(input),
  left: ReadonlySet<string> = new Set(),
): HostPlan {
  const files = [...wanted.files, ...editedFiles(input, seen)]
    .filter(({ path, content }) => seen.files.get(path) !== content && !left.has(path));
  const reloads = ALL_RELOADS.filter((name) =>
    seen.pending.has(name) || files.some(({ path }) => RELOADS[name].concerns(path))
  );
  const stepsWhen = (when: "before" | "after") =>
    reloads.filter((name) =>
      RELOADS[name].when === when && isRunning(name, seen) && !isImplied(name, reloads)
    )
      .map((name) => name === "systemd" ? reloadUnits([...wanted.files, ...files]) : RELOADS[name].step);
  // A link for the next boot: nothing that systemd would have to read its units anew for.
  const argv = ["systemctl", "enable", "--quiet", "--no-reload", MAIN_UNIT];
  const enable = { title: `enable ${MAIN_UNIT}`, argv };
  return {
    files,
    reloads,
    before: [
      ...stepsWhen("before"),
      ...modeSteps(modesOf(input, wanted.files), seen, new Set(files.map(({ path }) => path))),
      ...(seen.enabled ? [] : [enable]),
    ],
    network: networkSteps(wanted.network, seen.network),
    after: stepsWhen("after"),
  };
}

/** The step for the units among these files, those that are to go included. */
function reloadUnits(files: readonly WantedFile[]): Step {
  const { step, concerns } = RELOADS.systemd;
  // What a unit of somebody else is told in a folder of its own concerns the next boot.
  const units = files.map(({ path }) => path).filter((path) => concerns(path) && !path.includes(".d/"))
    .map((path) => path.slice(UNIT_DIR.length + 1));
  return { ...step, argv: [...step.argv, ...new Set(units)] };
}

/** Of the plan's reloads those that are done once its files are written and what comes before the network's steps is carried out. */
export function firstReloads({ reloads }: Pick<HostPlan, "reloads">): Reload[] {
  return reloads.filter((name) => RELOADS[name].when === "before");
}

/** Our files with the modes they have to have: those that are rendered, the executable, and the private key. */
export function modesOf(
  input: HostInput,
  files: readonly WantedFile[] = renderFiles(input),
): { readonly path: string; readonly mode: number }[] {
  const { config } = input;
  const key = config.hosts.find(({ id }) => id === config.self)?.publicKey;
  return [
    ...files.map(({ path, mode = 0o644 }) => ({ path, mode })),
    { path: EXECUTABLE, mode: 0o755 },
    // A plan has a word in place of a key that is still to be made.
    ...(key === undefined || !isKey(key) ? [] : [{ path: keyFile(key), mode: 0o600 }]),
  ];
}

/** A file that is written anew gets its mode and owner by that. */
function modeSteps(
  modes: ReturnType<typeof modesOf>,
  seen: SeenHost,
  written: ReadonlySet<string>,
): Step[] {
  return modes.flatMap(({ path, mode }) => {
    const live = seen.modes.get(path);
    if (!live || written.has(path)) return [];
    const octal = mode.toString(8);
    return [
      ...(live.owner === "0:0" ? [] : [{ title: `give ${path} back to root`, argv: ["chown", "0:0", path] }]),
      ...(live.mode === mode ? [] : [{
        title: `set mode of ${path} from ${live.mode.toString(8)} to ${octal}`,
        argv: ["chmod", octal, path],
      }]),
    ];
  });
}

/** Files of others, as they have to become; one that is gone stays gone. */
function editedFiles({ baseline }: HostInput, seen: SeenHost): WantedFile[] {
  const interfaces = ifupdownEdits(baseline).flatMap(({ path, edit }) => {
    const text = seen.files.get(path);
    return text === undefined ? [] : [{ path, content: edit(text) }];
  });
  return [...interfaces, ...apparmorFiles(seen.files)];
}

/** What is only about to start reads its files anyway. */
function isRunning(name: Reload, seen: SeenHost): boolean {
  const unit = /^(dnsmasq|egress|paths)/.exec(name)?.[1];
  return unit === undefined || seen.network.activeUnits.includes(`mobula-${unit}.service`);
}

/** What is restarted reads all of its files. */
function isImplied(name: Reload, reloads: readonly Reload[]): boolean {
  return name === "networkd-links" && reloads.includes("networkd");
}

/** Titles of everything the plan does, in order. */
export function planTitles(plan: HostPlan): string[] {
  return [
    ...plan.files.map(({ path }) => `write ${path}`),
    ...[...plan.before, ...plan.network, ...plan.after].map(({ title }) => title),
  ];
}
