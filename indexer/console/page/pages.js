// Every page of the console. To add one: write its module, and a line here; CONTRIBUTING.md says what else.
// path: segments of the address, `:name` takes any. nav: its word in the navigation; within: the page that is marked there.
// load: its module, when first shown; the module's default export is a component that gets { params, place }.

export const PAGES = [
  { path: [], title: "Overview", nav: "Overview", load: () => import("./pages/overview.js") },
  { path: ["repositories"], title: "Repositories", nav: "Repositories", load: () => import("./pages/repositories.js") },
  { path: ["repositories", ":repository"], title: (of) => of.repository, within: "repositories", load: () => import("./pages/tags.js") },
  { path: ["repositories", ":repository", "tags", ":tag"], title: (of) => `${of.repository}:${of.tag}`, within: "repositories", load: () => import("./pages/tag.js") },
  { path: ["repositories", ":repository", "manifests", ":digest"], title: (of) => `${of.repository}@${of.digest.slice(0, 19)}`, within: "repositories", load: () => import("./pages/manifest.js") },
  { path: ["tags"], title: "Tags of all repositories", nav: "Tags", load: () => import("./pages/tags.js") },
  { path: ["compare"], title: "Compare", nav: "Compare", load: () => import("./pages/compare.js") },
  { path: ["audit"], title: "Audit log", nav: "Audit log", load: () => import("./pages/audit.js") },
  { path: ["drift"], title: "Drift and reconciles", nav: "Drift", load: () => import("./pages/drift.js") },
  { path: ["cleanup"], title: "Cleanup", nav: "Cleanup", load: () => import("./pages/cleanup.js") },
  { path: ["cleanup", "now"], title: "What would go now", load: () => import("./pages/preview.js") },
  { path: ["cleanup", "plans", ":plan"], title: (of) => `Plan ${of.plan}`, load: () => import("./pages/plan.js") },
  { path: ["cleanup", "uncertain"], title: "Uncertain", load: () => import("./pages/uncertain.js") },
  { path: ["trash"], title: "Trash", within: "cleanup", load: () => import("./pages/trash.js") },
  { path: ["holds"], title: "Holds", within: "cleanup", load: () => import("./pages/holds.js") },
  { path: ["storage"], title: "Storage", nav: "Storage", load: () => import("./pages/storage.js") },
  { path: ["jobs"], title: "Jobs", nav: "Jobs", load: () => import("./pages/jobs.js") },
  { path: ["jobs", ":job"], title: "Job", load: () => import("./pages/job.js") },
  { path: ["feeds"], title: "Feeds and dead letters", nav: "Feeds", load: () => import("./pages/feeds.js") },
  { path: ["feeds", ":feed"], title: (of) => `Feed ${of.feed}`, load: () => import("./pages/feed.js") },
  { path: ["sign-in"], title: "Sign in", load: () => import("./pages/sign-in.js") },
];

// The page of an address with its parameters, or null.
export function find(segments) {
  for (const page of PAGES) {
    const params = match(page.path, segments);
    if (params) return { page, params };
  }
  return null;
}

export function titleOf(page, params) {
  return typeof page.title === "function" ? page.title(params) : page.title;
}

function match(path, segments) {
  if (path.length !== segments.length) return null;
  const params = {};
  for (const [index, expected] of path.entries()) {
    if (expected.startsWith(":")) params[expected.slice(1)] = segments[index];
    else if (expected !== segments[index]) return null;
  }
  return params;
}
