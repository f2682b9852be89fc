/**
 * What has to go from a host when its own network is to come back: our files, and what we changed in files of others. Data → data
 * and scripts. Pure.
 */
import type { Baseline } from "../facts.ts";
import { KEY_DIR } from "../net/wireguard.ts";
import { DNSMASQ_LOCAL, RELOAD_PROFILE, removeRules } from "../render/apparmor.ts";
import { BRIDGE_FILTER_RULE } from "../render/bridge_filter.ts";
import { HEADER } from "../render/header.ts";
import { ifupdownEdits, restoreInterfaces } from "../render/ifupdown.ts";
import { managerFiles } from "../render/managers.ts";
import { RESOLVED_DROP_IN } from "../render/resolver.ts";
import { NIC_RULE, RELOAD_UDEV, UDEV_RULES } from "../render/udev.ts";
import {
  FOLLOW_UNIT,
  HEAL_UNIT,
  MAIN_UNIT,
  NIC_UNIT,
  RESCUE_DROP_IN,
  RESCUE_UNIT,
  ROLLBACK_UNIT,
  UNIT_DIR,
} from "../render/units.ts";
import type { Step, WantedFile } from "../step.ts";

const RESOLV_CONF = "/etc/resolv.conf";

/** The daemons, and the units that configure them. */
export const OUR_UNITS: readonly string[] = [
  MAIN_UNIT,
  HEAL_UNIT,
  RESCUE_UNIT,
  NIC_UNIT,
  FOLLOW_UNIT,
  "mobula-egress.service",
  "mobula-paths.service",
  "mobula-dnsmasq.service",
  "mobula-wireguard.service",
  "mobula-vswitchd.service",
  "mobula-ovsdb.service",
];

/** Whom the files concern, how they are called, and how their owner is told that they are gone. */
const OWNERS = [
  {
    service: "systemd-networkd.service",
    files: managerFiles("networkd"),
    verb: "try-restart",
  },
  {
    service: "NetworkManager.service",
    files: managerFiles("NetworkManager"),
    verb: "try-reload-or-restart",
  },
  { service: "systemd-resolved.service", files: [RESOLVED_DROP_IN], verb: "try-restart" },
] as const;

/** Our files outside of /opt/mobula, but for the units' own. */
const OUR_FILES: readonly string[] = [
  ...OWNERS.flatMap(({ files }) => files),
  "/etc/modules-load.d/mobula.conf",
  BRIDGE_FILTER_RULE,
  RESCUE_DROP_IN,
];

/** The files whose text has to be known. */
export function leavePaths(baseline: Baseline | undefined): string[] {
  const edited = baseline ? ifupdownEdits(baseline).map(({ path }) => path) : [];
  return [RESOLV_CONF, DNSMASQ_LOCAL, ...OUR_FILES, ...edited];
}

/** Comes before anything else: the card that is given back would be taken again. */
export const FORGET_NIC: Step = {
  title: "leave plugged-in cards alone",
  argv: ["sh", "-c", `rm -f ${NIC_RULE}; ${RELOAD_UDEV}`],
};

/** All that has to be done to the host's files, in this order. */
export interface LeavePlan {
  /** Written or, where there is no content, removed. */
  readonly files: readonly WantedFile[];
  readonly steps: readonly Step[];
  /** Whoever has to read its files again, when the network is back. */
  readonly reloads: readonly Step[];
}

/** Network managers wait for a target that waits for us at boot. */
const AT_ONCE = "--job-mode=ignore-dependencies";

/** From the files' present texts to the plan; a text that somebody else has written since stays. */
export function leavePlan(
  baseline: Baseline | undefined,
  seen: ReadonlyMap<string, string | undefined>,
): LeavePlan {
  const present = OUR_FILES.filter((path) => seen.get(path) !== undefined);
  const local = seen.get(DNSMASQ_LOCAL);
  const confined = local !== undefined && removeRules(local) !== local;
  const resolv = seen.get(RESOLV_CONF)?.startsWith(HEADER) ? baseline?.resolvConf : undefined;
  return {
    files: [
      ...baseline ? restoredInterfaces(baseline, seen) : [],
      ...present.map((path) => ({ path, content: undefined })),
      ...confined ? [{ path: DNSMASQ_LOCAL, content: removeRules(local) }] : [],
      ...resolv?.link === undefined && resolv
        ? [{ path: RESOLV_CONF, content: resolv.text || undefined }]
        : [],
    ],
    steps: [
      ...resolv?.link === undefined ? [] : [{
        title: `let ${RESOLV_CONF} point to ${resolv.link} again`,
        argv: ["ln", "-sfn", "--", resolv.link, RESOLV_CONF],
      }],
      { title: "remove units and folders", argv: ["sh", "-c", REMOVE_SCRIPT] },
    ],
    reloads: [
      ...OWNERS.filter(({ files }) => files.some((path) => present.includes(path)))
        .map(({ service, verb }) => ({
          title: `restart ${service}`,
          argv: ["systemctl", ...(service.includes("resolved") ? [] : [AT_ONCE]), verb, service],
        })),
      ...confined ? [{ title: "reload dnsmasq's AppArmor profile", argv: ["sh", "-c", RELOAD_PROFILE] }] : [],
    ],
  };
}

function restoredInterfaces(baseline: Baseline, seen: ReadonlyMap<string, string | undefined>): WantedFile[] {
  return ifupdownEdits(baseline).flatMap(({ path }): WantedFile[] => {
    const text = seen.get(path);
    if (text === undefined) return [];
    const content = restoreInterfaces(text, baseline.interface, baseline.interfaces?.[path] ?? "");
    return content === text ? [] : [{ path, content }];
  });
}

/** The unit that does all this stays until the end. */
const REMOVE_SCRIPT = `
systemctl disable --quiet ${MAIN_UNIT} 2>/dev/null
for unit in ${UNIT_DIR}/mobula*.service; do
  [ "$unit" = ${UNIT_DIR}/${ROLLBACK_UNIT} ] || rm -f "$unit"
done
rm -rf /etc/netns/mobula /opt/mobula/keys.json ${KEY_DIR} /var/run/wireguard/mo-wg-gw.sock
for folder in /etc/netns /etc/systemd/networkd.conf.d /etc/systemd/resolved.conf.d \\
  ${UNIT_DIR}/systemd-networkd-wait-online.service.d ${UNIT_DIR}/multi-user.target.d; do
  rmdir "$folder" 2>/dev/null
done
command -v udevadm >/dev/null || rmdir -p ${UDEV_RULES} 2>/dev/null
systemctl daemon-reload
systemctl reset-failed 'mobula*' 2>/dev/null
exit 0
`;

/**
 * What remains when the network is back and only the unit that brought it back is left. That one is running: without a file of its own
 * it would have systemd's default time for a start, which on a slow host is over, and would be ended before the rest is gone.
 */
export const LAST_SCRIPT = `
systemctl disable --quiet ${ROLLBACK_UNIT} 2>/dev/null
cp ${UNIT_DIR}/${ROLLBACK_UNIT} /run/systemd/system/
rm -f ${UNIT_DIR}/${ROLLBACK_UNIT}
systemctl daemon-reload
rm -f /run/systemd/system/${ROLLBACK_UNIT}
[ "$1" = uninstall ] || exit 0
rm -rf /opt/mobula /run/mobula /var/cache/mobula
exit 0
`;
