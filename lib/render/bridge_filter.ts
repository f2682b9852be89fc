/**
 * udev's rule for the module by which the packet filter sees bridged frames: Docker loads it at any time, and with it the filter of
 * every namespace, ours too, begins to judge them. Pure.
 */
import type { WantedFile } from "../step.ts";
import { HEADER } from "./header.ts";
import { HEAL_UNIT } from "./units.ts";

/** The rule's file. */
export const BRIDGE_FILTER_RULE = "/etc/udev/rules.d/70-mobula-bridges.rules";

/** Our gateway is configured again when the module comes, and switches the filter off for its own bridges. */
export function renderBridgeFilterRule(): WantedFile {
  const command = `/bin/systemctl restart --no-block ${HEAL_UNIT}`;
  const rule = `ACTION=="add", SUBSYSTEM=="module", KERNEL=="br_netfilter", RUN+="${command}"`;
  return { path: BRIDGE_FILTER_RULE, content: `${HEADER}\n${rule}\n` };
}
