/**
 * What a host can do about modules that its kernel lacks. Pure.
 */
import type { KernelLacks } from "../facts.ts";
import type { Distro } from "./table.ts";

/** The way to the modules, as a sentence without its full stop; a container cannot go it by itself. */
export function wayToModules({ kernel: packages }: Distro, kernel: string, lacks: KernelLacks): string {
  const { modules, kernels, container } = lacks;
  if (container) return `Run "modprobe -a ${modules.join(" ")}" on the machine that the container runs on`;
  // An upgrade takes away the modules of the kernel that still runs.
  if (kernels.length > 0 && !kernels.includes(kernel)) {
    return `Reboot: the modules of the running kernel are gone, those of ${kernels.join(", ")} are there`;
  }
  return kernels.includes(kernel) && packages.releases.test(kernel)
    ? packages.modules.replace("%k", kernel)
    : `Install ${packages.image} and reboot into it`;
}
