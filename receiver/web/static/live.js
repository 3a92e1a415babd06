// Keeps the page current: asks for it again, and replaces the sections that have changed.
"use strict";

const EVERY = 3000; // milliseconds between looks; nothing is asked while the page is hidden
const live = document.getElementById("live");
let etag = null;
let announced = "";

function tell(text) {
  if (text === announced) return; // a screen reader reads each change aloud
  announced = text;
  live.textContent = text;
}

// A section in which somebody types, or has opened something, is left as it is.
function inUse(section) {
  return section.contains(document.activeElement) || section.querySelector("details.act[open]");
}

function adopt(fresh) {
  const main = document.getElementById("main");
  const known = new Map([...main.children].map((one) => [one.id, one]));
  const sections = [...fresh.getElementById("main").children];
  let waiting = false;
  for (const section of sections) {
    const old = known.get(section.id);
    known.delete(section.id);
    if (old && old.outerHTML === section.outerHTML) continue;
    if (old && inUse(old)) {
      waiting = true;
    } else if (old) {
      const fold = section.querySelectorAll("details");
      old.querySelectorAll("details").forEach((details, place) => {
        const same = fold[place];
        if (same && !same.classList.contains("act")) same.open = details.open;
      });
      section.classList.add("changed");
      old.replaceWith(section);
      section.addEventListener("animationend", () => section.removeAttribute("class"));
    } else {
      const next = sections.slice(sections.indexOf(section) + 1).find((one) => known.has(one.id));
      main.insertBefore(section, next ? known.get(next.id) : null);
    }
  }
  for (const gone of known.values()) if (gone.id && !inUse(gone)) gone.remove();
  document.title = fresh.title;
  return waiting;
}

async function look() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, {
      headers: etag ? { "If-None-Match": etag } : {},
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(10000),
    });
    if (answer.status !== 304) {
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      // What is in use is looked at again: its section has not been adopted.
      etag = adopt(fresh) ? null : answer.headers.get("ETag");
    }
    tell("Live: " + document.title.split(" · ")[0]);
  } catch {
    tell("promheal does not answer; this is what it said at " + new Date(last).toLocaleTimeString());
    return;
  }
  last = Date.now();
}

let last = Date.now();
document.addEventListener("visibilitychange", look);
setInterval(look, EVERY);
look();
