// SPDX-License-Identifier: MIT
// vexctl search: the nearest vectors to a vector, to a file, or to each row of a query file.
#include <cmath>
#include <iostream>
#include <limits>
#include <map>

#include "kinds.h"
#include "rows.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string path, query, like, metric, as_of;
  uint64_t collection = 0;
  uint32_t k = 10, ef = 0;
  double recall = 0;
  int64_t row = -1;
  std::vector<std::string> filters, under, tags, ids;
  std::string radius, after;
  uint32_t pages = 0;
  bool exact = false, skip_stale = false, shift = false, no_paths = false, by_file = false, explain = false;
};

float parse_float(const std::string &option, const std::string &text) {
  char *end = nullptr;
  const float v = strtof(text.c_str(), &end);
  if (text.empty() || *end || std::isnan(v)) throw Usage(option + " '" + text + "': a number expected");
  return v;
}

// Where a page ends, as DISTANCE:SLOT.
std::string cursor_of(const vexfs_hit &h) {
  char buf[64];
  snprintf(buf, sizeof buf, "%.9g:%llu", static_cast<double>(client::hit_distance(h)),
           static_cast<unsigned long long>(h.slot));
  return buf;
}

void set_cursor(client::Query &q, const std::string &text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) throw Usage("--after '" + text + "': DISTANCE:SLOT expected, as a search prints it");
  q.after_distance = parse_float("--after", text.substr(0, colon));
  const Range r = parse_range(text.substr(colon + 1));
  if (r.from != r.to) throw Usage("--after '" + text + "': DISTANCE:SLOT expected, as a search prints it");
  q.after_slot = r.from;
}

uint64_t inode_of(Context &ctx, const std::string &path) { return ctx.open(path, Access::read)->ino(); }

// KIND=VALUE, with ! before KIND for its opposite.
vexfs_filter parse_filter(Context &ctx, const std::string &text) {
  vexfs_filter f{};
  std::string t = text;
  if (!t.empty() && t[0] == '!') {
    f.flags = VEXFS_FILTER_NOT;
    t.erase(0, 1);
  }
  const size_t eq = t.find('=');
  if (eq == std::string::npos) throw Usage("--filter '" + text + "': KIND=VALUE expected (id, tag, under, owner)");
  const std::string kind = t.substr(0, eq);
  const std::string value = t.substr(eq + 1);
  if (kind == "id" || kind == "tag") {
    const Range r = parse_range(value);
    f.kind = kind == "id" ? VEXFS_FILTER_ID_RANGE : VEXFS_FILTER_TAG_RANGE;
    f.a = r.from;
    f.b = r.to;
  } else if (kind == "under" || kind == "owner") {
    f.kind = kind == "under" ? VEXFS_FILTER_SUBTREE : VEXFS_FILTER_OWNER;
    f.a = inode_of(ctx, value);
  } else {
    throw Usage("--filter '" + text + "': unknown kind '" + kind + "' (id, tag, under, owner)");
  }
  return f;
}

std::vector<vexfs_filter> all_filters(Context &ctx, const Options &o) {
  std::vector<vexfs_filter> fs;
  for (const auto &f : o.filters) fs.push_back(parse_filter(ctx, f));
  for (const auto &v : o.ids) fs.push_back(parse_filter(ctx, "id=" + v));
  for (const auto &v : o.tags) fs.push_back(parse_filter(ctx, "tag=" + v));
  for (const auto &v : o.under) fs.push_back(parse_filter(ctx, "under=" + v));
  if (fs.size() > VEXFS_FILTERS_MAX) throw Usage("at most " + std::to_string(VEXFS_FILTERS_MAX) + " filters");
  return fs;
}

// Names of owners, each looked up once.
class Names {
 public:
  Names(Context &ctx, const client::Target &t, bool wanted) : ctx_(ctx), target_(t), wanted_(wanted) {}
  const std::string &of(const vexfs_hit &h) {
    auto [it, fresh] = names_.try_emplace(h.owner);
    if (fresh && wanted_ && h.owner) it->second = ctx_.place(Access::read).path_of(h.owner, h.generation, target_);
    return it->second;
  }

 private:
  Context &ctx_;
  const client::Target &target_;
  bool wanted_;
  std::map<uint64_t, std::string> names_;
};

bool more_behind(const std::vector<vexfs_hit> &hits) { return !hits.empty() && hits.back().flags & VEXFS_ROW_MORE; }

// The searches of one command: one, or one for each page.
client::Answer run(client::Target &t, client::Query q, const Options &o, const void *data, size_t nq) {
  client::Answer all = client::search(t, q, data, nq);
  for (uint32_t page = 1; page < o.pages && more_behind(all.hits[0]); page++) {
    q.after_distance = client::hit_distance(all.hits[0].back());
    q.after_slot = all.hits[0].back().slot;
    const client::Answer next = client::search(t, q, data, nq);
    all.hits[0].back().flags &= ~VEXFS_ROW_MORE;
    all.hits[0].insert(all.hits[0].end(), next.hits[0].begin(), next.hits[0].end());
    all.distances += next.distances;
    all.hops += next.hops;
    all.scanned += next.scanned;
    all.elapsed_ns += next.elapsed_ns;
    all.plan = next.plan;
  }
  return all;
}

bool tells_of_more(const client::Query &q) {
  return q.flags & (VEXFS_SEARCH_RADIUS | VEXFS_SEARCH_AFTER | VEXFS_SEARCH_BY_OWNER);
}

json to_json(const vexfs_hit &h, const std::string &path) {
  json j;
  j["id"] = h.id;
  j["distance"] = shortest(client::hit_distance(h));
  j["owner"] = h.owner;
  j["path"] = path;
  j["offset"] = h.offset;
  j["length"] = h.length;
  j["tag"] = h.tag;
  j["generation"] = h.generation;
  j["slot"] = h.slot;
  j["stale"] = (h.flags & VEXFS_ROW_STALE) != 0;
  j["indexed"] = (h.flags & VEXFS_ROW_INDEXED) != 0;
  return j;
}

void print_json(const Context &ctx, const vexfs_collection &c, const client::Query &q, const client::Answer &a,
                bool explain, Names &names) {
  json j;
  j["collection"] = c.id;
  j["metric"] = client::metric_name(c.metric);
  j["k"] = q.k;
  json results = json::array();
  for (const auto &hits : a.hits) {
    json list = json::array();
    for (const auto &h : hits) list.push_back(to_json(h, names.of(h)));
    results.push_back(std::move(list));
  }
  j["results"] = std::move(results);
  if (tells_of_more(q)) {
    json more = json::array();
    for (const auto &hits : a.hits) more.push_back(more_behind(hits));
    j["more"] = std::move(more);
    if (q.flags & VEXFS_SEARCH_AFTER && more_behind(a.hits[0])) j["next"] = cursor_of(a.hits[0].back());
  }
  if (a.ef) j["ef"] = a.ef;
  j["distances"] = a.distances;
  j["hops"] = a.hops;
  j["scanned"] = a.scanned;
  j["elapsed_ns"] = a.elapsed_ns;
  if (!q.filters.empty() || explain) j["plan"] = client::plan_name(a.plan);
  ctx.print(j);
}

void print_text(const Context &ctx, const vexfs_collection &c, const client::Query &q, const client::Answer &a,
                bool explain, Names &names) {
  for (size_t i = 0; i < a.hits.size(); i++) {
    if (a.hits.size() > 1) ctx.say("query " + std::to_string(i));
    Table table({"RANK", "DISTANCE", "ID", "OWNER"});
    size_t rank = 1;
    for (const auto &h : a.hits[i]) {
      const std::string &path = names.of(h);
      std::string owner = !path.empty() ? path : h.owner ? "(inode " + std::to_string(h.owner) + ")" : "";
      if (h.length) owner += " [" + std::to_string(h.offset) + ":" + std::to_string(h.length) + "]";
      if (h.flags & VEXFS_ROW_STALE) owner += " (stale)";
      table.row({std::to_string(rank++), fixed(static_cast<double>(client::hit_distance(h)), 6), std::to_string(h.id),
                 owner});
    }
    if (ctx.quiet) continue;
    if (a.hits[i].empty())
      std::cout << "nothing found\n";
    else
      table.print();
    if (tells_of_more(q) && more_behind(a.hits[i]))
      std::cout << (q.flags & VEXFS_SEARCH_AFTER ? "there are more: --after " + cursor_of(a.hits[i].back())
                                                 : std::string("there are more"))
                << "\n";
  }
  // Of collections with rows of files, the work is not told: it would tell of rows that one may not see.
  const std::string work = a.distances ? human_count(a.distances) + " distances, " : "";
  std::string foot = std::string("metric ") + client::metric_name(c.metric) + ", " + work +
                     fixed(static_cast<double>(a.elapsed_ns) / 1e3, 1) + " us";
  if (!q.filters.empty() || explain) foot += std::string(", plan: ") + client::plan_name(a.plan);
  if (explain)
    foot += ", " + human_count(a.hops) + " nodes of the index visited, " + human_count(a.scanned) +
            " rows scanned of " + human_count(c.rows);
  if (explain && a.ef) foot += ", ef " + std::to_string(a.ef);
  ctx.say(foot);
}

// Of an image it is the image that is opened as it was then, of a mounted filesystem each path.
Options then(Context &ctx, Options o) {
  if (o.as_of.empty()) return o;
  if (!ctx.image.empty()) {
    ctx.snapshot = o.as_of;
    return o;
  }
  for (const auto &f : o.filters)
    if (f.find("under=") != std::string::npos || f.find("owner=") != std::string::npos)
      throw Usage("--filter '" + f + "': with --as-of give its path below .vexfs/snapshots, or use --under");
  if (o.path.empty() && o.like.empty()) o.path = ".";
  for (std::string *p : {&o.path, &o.like})
    if (!p->empty()) *p = client::path_in_snapshot(*p, o.as_of);
  for (auto &p : o.under) p = client::path_in_snapshot(p, o.as_of);
  return o;
}

void search(Context &ctx, const Options &given) {
  const Options o = then(ctx, given);
  if (o.query.empty() == o.like.empty()) throw Usage("give either --query or --like");
  const bool like = !o.like.empty();
  const std::string &at = o.path.empty() && like ? o.like : o.path;
  auto t = ctx.open(at, Access::read);
  const vexfs_collection c = client::collection_info(*t, o.collection);
  if (!o.metric.empty()) {
    const auto m = client::metric_from(o.metric);
    if (!m) throw Usage("unknown metric '" + o.metric + "' (known: " + client::metric_names() + ")");
    if (*m != c.metric)
      throw Usage(std::string("the collection's metric is ") + client::metric_name(c.metric) +
                  ": it is a property of the collection, a search cannot choose another");
  }
  client::Query q;
  q.collection = c.id;
  q.dim = c.dim;
  q.k = o.k;
  q.ef = o.ef;
  q.recall = per_mille(o.recall);
  if (q.ef && q.recall) throw Usage("--ef and --recall exclude each other");
  q.filters = all_filters(ctx, o);
  if (o.exact) q.flags |= VEXFS_SEARCH_EXACT;
  if (o.skip_stale) q.flags |= VEXFS_SEARCH_SKIP_STALE;
  if (o.by_file) q.flags |= VEXFS_SEARCH_BY_OWNER;
  if (!o.radius.empty()) {
    q.flags |= VEXFS_SEARCH_RADIUS;
    q.radius = parse_float("--radius", o.radius);
  }
  if (o.pages || !o.after.empty()) {
    if (o.by_file) throw Usage("--group-by-file has no pages");
    q.flags |= VEXFS_SEARCH_AFTER;
    q.after_distance = -std::numeric_limits<float>::infinity();
    if (!o.after.empty()) set_cursor(q, o.after);
  }
  Rows rows;
  if (like) {
    q.flags |= VEXFS_SEARCH_LIKE;
    q.like_owner = inode_of(ctx, o.like);
    q.element = VEXFS_F32;
  } else {
    rows = rows_from_argument(o.query, o.row, c, o.shift);
    q.element = rows.element;
  }
  if (q.flags & VEXFS_SEARCH_AFTER && !like && rows.count != 1)
    throw Usage("pages are of one query: choose it with --row");
  const client::Answer a = with_reason(
      rows, c, "the query", [&] { return run(*t, q, o, like ? nullptr : rows.data.data(), like ? 1 : rows.count); });
  Names names(ctx, *t, !o.no_paths);
  if (ctx.as_json)
    print_json(ctx, c, q, a, o.explain, names);
  else
    print_text(ctx, c, q, a, o.explain, names);
}

}  // namespace

void add_search_command(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = app.add_subcommand("search", "Find the nearest vectors");
  c->add_option("PATH", o->path, "the collection's directory, or anything below");
  c->add_option("--collection", o->collection, "id of the collection, instead of the one of PATH")
      ->check(unsigned_number());
  c->add_option("-q,--query", o->query, "\"[1, 2, 3]\", - for stdin, or a vector file (each row is a query)");
  c->add_option("--row", o->row, "only this row of the query file")->check(CLI::NonNegativeNumber);
  c->add_option("--like", o->like, "find what is like this file (its first vector is the query)");
  c->add_option("-k", o->k, "how many")->capture_default_str()->check(CLI::Range(1, VEXFS_K_MAX));
  c->add_option("--ef", o->ef, "breadth of the search, 0 = the collection's")->check(CLI::Range(0, VEXFS_EF_MAX));
  c->add_option("--recall", o->recall, "share of the nearest -k to be found, 0.95 say: chooses the breadth")
      ->check(CLI::Range(0.0, 1.0));
  c->add_option("--metric", o->metric, "the metric you expect; an error when the collection has another");
  c->add_option("--as-of", o->as_of, "what the search would have found when this snapshot was made");
  c->add_option("--radius", o->radius, "only vectors at most so far away");
  c->add_option("--pages", o->pages, "so many pages of -k hits, one behind the other")->check(CLI::Range(1, 1000000));
  c->add_option("--after", o->after, "the page behind DISTANCE:SLOT, where the last one ended");
  c->add_flag("--group-by-file", o->by_file, "-k different files, of each its nearest vector");
  c->add_flag("--explain", o->explain, "say how the search was done");
  c->add_flag("--exact", o->exact, "scan all vectors, whatever the index");
  c->add_flag("--skip-stale", o->skip_stale, "leave out hits whose file changed since");
  c->add_option("--under", o->under, "only vectors of files below this directory")->allow_extra_args(false);
  c->add_option("--tag", o->tags, "only tags a..b (both ends included)")->allow_extra_args(false);
  c->add_option("--id", o->ids, "only ids a..b (both ends included)")->allow_extra_args(false);
  c->add_option("--filter", o->filters, "id=a..b, tag=a..b, under=DIR, owner=FILE; ! before it for the opposite")
      ->allow_extra_args(false);
  c->add_flag("--shift", o->shift, "unsigned bytes against an int8 collection: v - 128");
  c->add_flag("--no-paths", o->no_paths, "inode numbers only: do not look up names");
  c->callback([&ctx, o] { search(ctx, *o); });
}

}  // namespace vexfs::vexctl
