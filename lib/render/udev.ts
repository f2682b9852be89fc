/**
 * udev's rule for the external interface, by which a card that is plugged in again finds its way back. Pure.
 */
import type { Baseline } from "../facts.ts";
import type { WantedFile } from "../step.ts";
import { HEADER } from "./header.ts";
import { NIC_UNIT } from "./units.ts";

/** Where udev looks for rules. */
export const UDEV_RULES = "/etc/udev/rules.d";

/** The file; gone before the card is given back, or it would be taken again. */
export const NIC_RULE = `${UDEV_RULES}/70-mobula-nic.rules`;

/** Has udev read its rules again, which it would do by itself, only later; a container has no udev. */
export const RELOAD_UDEV = "[ ! -e /run/udev/control ] || udevadm control --reload || :";

/**
 * udev itself may not enter a namespace, so a unit does. Only hardware has a driver: our bridge, or a VLAN, may have the same
 * address. Not only when it is added: systemd does not look at it before it has its last name.
 */
export function renderNicRule({ mac }: Pick<Baseline, "mac">): WantedFile {
  const matches = [
    'ACTION!="remove"',
    'SUBSYSTEM=="net"',
    'ATTR{type}=="1"',
    `ATTR{address}=="${mac}"`,
    'DRIVERS=="?*"',
  ];
  const rule = [...matches, 'TAG+="systemd"', `ENV{SYSTEMD_WANTS}+="${NIC_UNIT}"`].join(", ");
  return { path: NIC_RULE, content: `${HEADER}\n${rule}\n` };
}
