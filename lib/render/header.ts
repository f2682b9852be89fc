/**
 * The first line of every file we make on a host: by it uninstall and the admin know whose it is. Pure.
 */
export const HEADER = "# Made by mobula; changed by the next push.";
