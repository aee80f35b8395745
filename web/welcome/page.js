// This page: the parts of the start page share it.
import { Pagewire } from "/pagewire.js";

export const page = new Pagewire();
