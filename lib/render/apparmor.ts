/**
 * Where AppArmor confines dnsmasq, ours is let read and write its own files, in the place that the profile keeps for that. Pure.
 */
import type { WantedFile } from "../step.ts";
import { ETC_DIR, UPSTREAM_FILE } from "./dnsmasq.ts";

/** The distribution's profile; Debian and openSUSE have it in apparmor-profiles. */
export const DNSMASQ_PROFILE = "/etc/apparmor.d/usr.sbin.dnsmasq";

/** What the profile includes for what is special to a host; others may have lines in it. */
export const DNSMASQ_LOCAL = "/etc/apparmor.d/local/usr.sbin.dnsmasq";

/** apparmor.d(5) */
const RULES = [`${ETC_DIR}/* r,`, `${UPSTREAM_FILE} r,`];

/** Each line of ours tells whose it is, for the file is the admin's. */
const MARK = "# mobula";

/** The profile's local file with our rules in it; nothing where there is no profile. */
export function apparmorFiles(seen: ReadonlyMap<string, string | undefined>): WantedFile[] {
  if (seen.get(DNSMASQ_PROFILE) === undefined) return [];
  return [{ path: DNSMASQ_LOCAL, content: addRules(seen.get(DNSMASQ_LOCAL) ?? "") }];
}

/** Adds our rules at the end, once. */
export function addRules(text: string): string {
  const kept = removeRules(text);
  const lines = kept === "" || kept.endsWith("\n") ? kept : `${kept}\n`;
  return lines + RULES.map((rule) => `${rule} ${MARK}\n`).join("");
}

/** Takes them out again. */
export function removeRules(text: string): string {
  return text.split("\n").filter((line) => !line.endsWith(MARK)).join("\n");
}

/** Has the kernel take the profile as it is now; a container has no AppArmor of its own. */
export const RELOAD_PROFILE = `[ -d /sys/kernel/security/apparmor ] || exit 0
command -v apparmor_parser >/dev/null || exit 0
exec apparmor_parser --replace ${DNSMASQ_PROFILE}`;
