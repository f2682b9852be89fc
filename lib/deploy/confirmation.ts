/**
 * Whether a host may stay as it was just configured. What others say of it is no reason: one that lies could have it rolled back. Pure.
 */
import type { Host } from "../fleet.ts";
import { type CheckResult, type HostVerification, isPing, type Verification } from "./checks.ts";

/**
 * Why a host is rolled back; undefined when its own gateway answers, and some other host if there is any that answers. It counts as cut off
 * only where two others reach each other, and both say so.
 */
export function whyUnconfirmed(
  { id, hostname }: Pick<Host, "id" | "hostname">,
  verification: Pick<Verification, "hosts"> | undefined,
): string | undefined {
  const own = verification?.hosts.find((host) => host.id === id);
  if (!verification || !own) return undefined;
  if (own.error !== undefined) return own.error;
  const pings = own.results.filter(isPing);
  if (pings.some(({ to, ok }) => to === hostname && !ok)) return "its own gateway does not answer";
  const others = pings.filter(({ to }) => to !== hostname);
  if (others.length === 0 || others.some(({ ok }) => ok)) return undefined;
  const rest = verification.hosts.filter((host) => host.id !== id);
  return rest.some((one) => rest.some((other) => one !== other && reaches(one, other) && reaches(other, one)))
    ? "it reaches none of the other hosts, which reach each other"
    : undefined;
}

function reaches({ results }: Pick<HostVerification, "results">, { hostname }: HostVerification): boolean {
  return results.some((result: CheckResult) => isPing(result) && result.to === hostname && result.ok);
}
