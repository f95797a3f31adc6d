// SPDX-License-Identifier: MIT
// Parameters of the kinds of index, as options and in what is printed.
#pragma once
#include <cmath>

#include "context.h"

namespace vexfs::vexctl {

// The name of codes becomes their number, or is refused in words.
inline std::string code_of(std::string &text) {
  std::string known;
  for (const auto &[name, value] : client::code_names()) {
    if (name == text) {
      text = std::to_string(value);
      return {};
    }
    known += (known.empty() ? "" : ", ") + name;
  }
  return "unknown codes '" + text + "' (known: " + known + ")";
}

struct KindOptions {
  uint32_t lists = 0, probes = 0, pq_m = 0, tables = 0, bits = 0, codes = 0;

  // zero: what 0 means there.
  void add_to(CLI::App *c, const std::string &zero) {
    c->add_option("--lists", lists, "IVF: number of lists, 0 = " + zero)->check(CLI::Range(0, VEXFS_IVF_LISTS_MAX));
    c->add_option("--probes", probes, "IVF: lists, LSH: buckets of each table, looked into for 64 of ef, 0 = " + zero)
        ->check(CLI::Range(0, VEXFS_PROBES_MAX));
    c->add_option("--pq-m", pq_m, "IVF-PQ: codes of 4 bits for a vector, 0 = " + zero)
        ->check(CLI::Range(0, VEXFS_PQ_M_MAX));
    c->add_option("--tables", tables, "LSH: hash tables, 0 = " + zero)->check(CLI::Range(0, VEXFS_LSH_TABLES_MAX));
    c->add_option("--bits", bits, "LSH: hash functions of a table, 0 = " + zero)
        ->check(CLI::Range(0, VEXFS_LSH_BITS_MAX));
    c->add_option("--codes", codes,
                  "HNSW, DiskANN: walk on codes of 8, 4, 2 or 1 bits an element, on the rows (none), or auto")
        ->transform(CLI::Validator(code_of, ""))
        ->type_name("KIND");
  }
  // To a vexfs_collection or vexfs_index.
  template <class T>
  void put(T &v) const {
    v.lists = lists;
    v.probes = probes;
    v.pq_m = static_cast<__u16>(pq_m);
    v.tables = static_cast<__u8>(tables);
    v.bits = static_cast<__u8>(bits);
    v.codes = static_cast<__u16>(codes);
  }
};

// A recall as --recall takes it, 0..1, in the ABI's thousandths.
inline uint16_t per_mille(double recall) {
  if (!(recall >= 0 && recall <= 1)) throw Usage("--recall: between 0 and 1");
  auto n = static_cast<uint16_t>(std::lround(recall * VEXFS_RECALL_ALL));
  if (recall < 1 && n == VEXFS_RECALL_ALL) n--;  // all of them are found by another way, which nobody asked for
  if (recall > 0 && n == 0) throw Usage("--recall: at least 0.001, or 0 for none");
  return n;
}
inline double recall_of(uint32_t per_mille) { return static_cast<double>(per_mille) / VEXFS_RECALL_ALL; }
inline std::string recall_text(uint32_t per_mille) { return fixed(recall_of(per_mille), 3); }

inline std::string codes_text(uint32_t codes) {
  for (const auto &[name, value] : client::code_names())
    if (value == codes) return name;
  return "?";
}

// What automatic choices came to, where that is known.
struct Used {
  uint32_t lists = 0, pq_m = 0, tables = 0, bits = 0, codes = 0;
};

// The name of the kind, and what there is to choose of it.
template <class T>
std::string kind_text(uint16_t kind, const T &v, const Used &used = {}) {
  auto one = [](const char *name, uint32_t n, uint32_t chosen = 0) {
    return std::string(", ") + name + " " +
           (n        ? std::to_string(n)
            : chosen ? "automatic (" + std::to_string(chosen) + ")"
                     : "automatic");
  };
  std::string s = client::index_name(kind);
  switch (kind) {
    case VEXFS_INDEX_FLAT:
      return s;
    case VEXFS_INDEX_HNSW:
    case VEXFS_INDEX_DISKANN:
      s += one("M", v.m) + one("ef_construction", v.ef_construction) + ", codes " + codes_text(v.codes);
      if (used.codes && used.codes != v.codes) s += " (" + codes_text(used.codes) + ")";
      break;
    case VEXFS_INDEX_LSH:
      s += one("tables", v.tables, used.tables) + one("bits", v.bits, used.bits) + one("probes", v.probes);
      break;
    default:
      s += one("lists", v.lists, used.lists) + one("probes", v.probes);
      if (kind == VEXFS_INDEX_IVF_PQ) s += one("pq_m", v.pq_m, used.pq_m);
  }
  return s + ", ef_search " + std::to_string(v.ef_search);
}

// What was asked for and is of no use to the kind.
template <class T>
std::string idle_text(uint16_t kind, const T &asked) {
  const bool graph = kind == VEXFS_INDEX_HNSW || kind == VEXFS_INDEX_DISKANN;
  const bool pq = kind == VEXFS_INDEX_IVF_PQ, ivf = pq || kind == VEXFS_INDEX_IVF_FLAT, lsh = kind == VEXFS_INDEX_LSH;
  const struct {
    const char *option;
    uint32_t asked;
    bool used;
  } all[] = {{"--links", asked.m, graph},   {"--ef-construction", asked.ef_construction, graph},
             {"--lists", asked.lists, ivf}, {"--probes", asked.probes, ivf || lsh},
             {"--pq-m", asked.pq_m, pq},    {"--tables", asked.tables, lsh},
             {"--bits", asked.bits, lsh},   {"--codes", asked.codes, graph}};
  std::string s;
  for (const auto &o : all)
    if (o.asked && !o.used) s += (s.empty() ? "" : ", ") + std::string(o.option);
  return s.empty() ? s : s + ": not used by " + client::index_name(kind);
}

template <class T>
void kind_json(json &j, const T &v) {
  j["lists"] = v.lists;
  j["probes"] = v.probes;
  j["pq_m"] = v.pq_m;
  j["tables"] = v.tables;
  j["bits"] = v.bits;
  j["codes"] = codes_text(v.codes);
}

}  // namespace vexfs::vexctl
