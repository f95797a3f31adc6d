// SPDX-License-Identifier: MIT
// vexctl dump: the structures of an image as they lie on disk, for those who debug it. Nothing is mounted, nothing is
// written, and damaged blocks are shown as far as that is safe.
#include <cerrno>
#include <cstring>
#include <iostream>

#include "../../kernel/core/disk/fs_items.h"
#include "../../kernel/core/disk/group.h"
#include "../../kernel/core/disk/log.h"
#include "../../kernel/core/disk/node.h"
#include "../../kernel/core/disk/refcount_items.h"
#include "../../kernel/core/disk/snapshot_items.h"
#include "../../kernel/core/disk/vector_items.h"
#include "../../kernel/core/store/log_reader.h"
#include "../../lib/device.h"
#include "context.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  uint64_t block = 0, oid = 0;
  std::string tree = "fs";
  bool items = false, have_oid = false, backups = false;
};

constexpr auto print = [](const char *s, size_t n) { std::cout.write(s, static_cast<std::streamsize>(n)); };

void print_refusal(const std::string &what, const disk::Refusal &r) {
  std::cout << what << ": REFUSED: " << disk::cause_name(r.cause) << (*r.field ? ": " : "") << r.field << ": found "
            << r.found << ", expected " << r.expected << '\n';
}

// An aligned buffer that I/O can go to.
class Block {
 public:
  explicit Block(size_t n) : n_(n), p_(static_cast<u8 *>(vx_alloc_large(n, VX_ALLOC_ZERO))) {
    if (!p_) throw std::bad_alloc();
  }
  ~Block() { vx_free_large(p_, n_); }
  Block(Block &&o) noexcept : n_(o.n_), p_(std::exchange(o.p_, nullptr)) {}
  Block(const Block &) = delete;
  Block &operator=(const Block &) = delete;
  u8 *data() const { return p_; }
  size_t size() const { return n_; }
  Bytes bytes() const { return {p_, n_}; }

 private:
  size_t n_;
  u8 *p_;
};

class Inspector {
 public:
  explicit Inspector(Context &ctx) : ctx_(ctx) {
    if (ctx.image.empty()) throw Usage("dump works on an image: give --image FILE");
    host::FileDevice::Options o;
    o.read_only = true;
    o.exclusive = false;
    const int rc = host::FileDevice::open(ctx.image, o, &device_);
    if (rc != 0) throw client::Error(-rc, ctx.image + ": " + strerror(-rc));
  }

  void super(bool backups) {
    show_super(disk::kSuperOffset);
    if (!backups) return;
    need_geometry();
    for (uint64_t g = 1; g < geo_.groups; g++)
      if (geo_.is_backup_group(g)) show_super(geo_.backup_block(g) << geo_.block_shift);
    show_super(geo_.last_backup_byte());
  }

  void roots() {
    need_geometry();
    for (unsigned slot = 0; slot < 2; slot++)
      for (unsigned mirror = 0; mirror < 2; mirror++) {
        Block b(size_t{geo_.root_blocks} * geo_.block_size);
        const uint64_t at = mirror ? geo_.root_mirror[slot] : geo_.root_slot[slot];
        const std::string what =
            "root slot " + std::to_string(slot) + (mirror ? " mirror" : "") + " at block " + std::to_string(at);
        read(at, b);
        const disk::Refusal r = disk::verify_root(b.bytes(), geo_, slot, mirror);
        if (!r.ok()) {
          print_refusal(what, r);
          continue;
        }
        std::cout << what << '\n';
        disk::print_root(b.bytes(), print);
      }
  }

  void groups() {
    Block root = newest_root();
    const auto *r = reinterpret_cast<const disk::RootDisk *>(root.data());
    for (uint64_t d = 0; d < geo_.desc_count; d++) {
      const uint64_t word = disk::root_desc(r)[d].get();
      const unsigned home = word & disk::kHomeBit ? 1 : 0;
      Block b(geo_.block_size);
      read(geo_.desc_start + home * geo_.desc_count + d, b);
      const disk::Refusal why = disk::verify_desc_block(b.bytes(), geo_, d, home, word & disk::kTxnMask);
      if (!why.ok())
        print_refusal("descriptor block " + std::to_string(d), why);
      else
        disk::print_desc_block(b.bytes(), print);
    }
  }

  // What the next mount will recover.
  void log(bool records) {
    const Block root = newest_root();
    const auto *r = reinterpret_cast<const disk::RootDisk *>(root.data());
    if (!geo_.has_log) {
      std::cout << "no intent log\n";
      return;
    }
    store::LogReader reader(device_.get(), geo_, *r);
    Status st = reader.scan();
    if (st.ok())
      st = reader.for_each([&](const disk::LogPieceDisk &, Bytes piece) {
        disk::print_log_piece(piece, geo_, records, print);
        return Status();
      });
    if (!st.ok()) throw client::Error(static_cast<int>(st.code()), "reading the intent log");
    std::cout << "log of " << geo_.log_blocks << " blocks at " << geo_.log_start << ": " << reader.groups()
              << " syncs to recover, " << reader.records() << " records\n";
  }

  void node(uint64_t block, bool items) {
    need_geometry();
    if (block >= geo_.total_blocks)
      throw Usage("node " + std::to_string(block) + ": the filesystem has " + human_count(geo_.total_blocks) +
                  " blocks");
    Block b(geo_.node_size);
    if (!load_node({.addr = block}, b)) return;
    const auto *h = reinterpret_cast<const disk::NodeHeader *>(b.data());
    disk::print_node(b.bytes(), true, print);
    if (items && h->level == 0) print_items(b, h->tree, nullptr);
  }

  // Depth first from the newest root, with a stack of its own: never deeper than the levels the root says.
  void tree(const std::string &name, bool items, const uint64_t *oid) {
    const unsigned id = tree_id(name);
    const Block root = newest_root();
    const auto &t = reinterpret_cast<const disk::RootDisk *>(root.data())->trees[id];
    if (t.levels == 0) {
      std::cout << "tree " << name << " is empty\n";
      return;
    }
    struct Step {
      store::NodePlace place;
      unsigned level;
    };
    std::vector<Step> todo{{place_of(t.node), t.levels - 1u}};
    uint64_t nodes = 0;
    Block b(geo_.node_size);
    while (!todo.empty()) {
      const Step s = todo.back();
      todo.pop_back();
      if (++nodes > geo_.total_blocks)
        throw client::Error(EUCLEAN, "the tree has more nodes than the device has blocks");
      if (!load_node(s.place, b)) continue;
      const auto *h = reinterpret_cast<const disk::NodeHeader *>(b.data());
      if (!oid) disk::print_node(b.bytes(), false, print);
      if (h->level != s.level) {
        std::cout << "node " << s.place.addr << ": level " << unsigned{h->level} << ", expected " << s.level
                  << ": not followed\n";
        continue;
      }
      if (s.level == 0) {
        if (items || oid) print_items(b, id, oid);
        continue;
      }
      const auto *branch = reinterpret_cast<const disk::BranchItem *>(b.data() + sizeof(disk::NodeHeader));
      for (uint32_t i = h->count; i-- > 0;) {
        const bool last = i + 1 == h->count;
        if (oid && (branch[i].key.oid.get() > *oid || (!last && branch[i + 1].key.oid.get() < *oid))) continue;
        todo.push_back(Step{place_of(branch[i].child), s.level - 1});
      }
    }
  }

 private:
  static unsigned tree_id(const std::string &name) {
    static constexpr std::array<const char *, 5> names{"fs", "collections", "snapshots", "refcounts", "dead"};
    for (unsigned i = 0; i < names.size(); i++)
      if (name == names[i]) return i;
    throw Usage("unknown tree '" + name + "'");
  }

  void read_bytes(uint64_t off, Block &b) {
    vx_io io{off, b.size(), b.data(), 0, VX_IO_READ};
    if (const int rc = vx_bdev_submit(device_.get(), &io, 1))
      throw client::Error(
          -rc, "reading " + std::to_string(b.size()) + " bytes at " + std::to_string(off) + ": " + strerror(-rc));
  }
  void read(uint64_t block, Block &b) { read_bytes(block << geo_.block_shift, b); }

  void show_super(uint64_t off) {
    Block b(disk::kSuperBytes);
    read_bytes(off, b);
    const auto &s = *reinterpret_cast<const disk::SuperDisk *>(b.data());
    disk::Geometry g;
    const disk::Refusal r = disk::verify_super(s, off, device_->size(), &g);
    std::cout << "superblock at byte " << off << '\n';
    if (!r.ok()) print_refusal("superblock", r);
    if (r.cause != disk::Cause::bad_magic) disk::print_super(s, print);
  }

  void need_geometry() {
    if (geo_.block_size) return;
    std::vector<uint64_t> places{disk::kSuperOffset};
    if (device_->size() >= disk::kSuperBytes) places.push_back(device_->size() / 4096 * 4096 - disk::kSuperBytes);
    for (uint64_t off : places) {
      Block b(disk::kSuperBytes);
      read_bytes(off, b);
      const auto &s = *reinterpret_cast<const disk::SuperDisk *>(b.data());
      if (disk::verify_super(s, off, device_->size(), &geo_).ok()) return;
      geo_ = disk::Geometry{};
    }
    throw client::Error(EUCLEAN, "no valid superblock (see: dump super)");
  }

  Block newest_root() {
    need_geometry();
    const size_t bytes = size_t{geo_.root_blocks} * geo_.block_size;
    uint64_t best_txn = 0;
    uint64_t best_at = 0;
    for (unsigned slot = 0; slot < 2; slot++)
      for (unsigned mirror = 0; mirror < 2; mirror++) {
        Block b(bytes);
        const uint64_t at = mirror ? geo_.root_mirror[slot] : geo_.root_slot[slot];
        read(at, b);
        if (!disk::verify_root(b.bytes(), geo_, slot, mirror).ok()) continue;
        const uint64_t txn = reinterpret_cast<const disk::RootDisk *>(b.data())->header.txn.get();
        if (best_at == 0 || txn > best_txn) best_txn = txn, best_at = at;
      }
    if (best_at == 0) throw client::Error(EUCLEAN, "no valid root slot (see: dump root)");
    Block b(bytes);
    read(best_at, b);
    return b;
  }

  static store::NodePlace place_of(const disk::NodePtr &p) { return {p.addr.get(), p.mirror.get()}; }

  // The first copy, or else the second one. A second copy alone is shown too: it says where the first one lies.
  bool load_node(const store::NodePlace &place, Block &b) {
    if (load_copy(place.addr, place.addr, b)) return true;
    return place.mirror && load_copy(place.mirror, place.addr, b);
  }

  bool load_copy(uint64_t block, uint64_t self, Block &b) {
    if (block >= geo_.total_blocks || geo_.node_blocks > geo_.total_blocks - block) {
      ctx_.result = exit_damage;
      std::cout << "node " << block << ": beyond the end of the filesystem\n";
      return false;
    }
    read(block, b);
    disk::Refusal r = disk::verify_header(b.bytes(), disk::Magic::node, geo_.fs_hash, self);
    if (r.cause == disk::Cause::misplaced && geo_.mirrored) {
      const uint64_t first = reinterpret_cast<const disk::BlockHeader *>(b.data())->addr;
      r = disk::verify_header(b.bytes(), disk::Magic::node, geo_.fs_hash, first);
      if (r.ok()) std::cout << "block " << block << " is the second copy of\n";
    }
    if (r.ok()) r = disk::verify_node_items(b.bytes(), geo_);
    if (r.ok()) return true;
    ctx_.result = exit_damage;
    print_refusal("node " + std::to_string(block), r);
    return false;
  }

  static void print_items(const Block &b, unsigned tree, const uint64_t *oid) {
    const auto *h = reinterpret_cast<const disk::NodeHeader *>(b.data());
    const auto *item = reinterpret_cast<const disk::LeafItem *>(b.data() + sizeof(disk::NodeHeader));
    std::vector<char> text(8192);
    for (uint32_t i = 0; i < h->count; i++) {
      const disk::DiskKey &k = item[i].key;
      if (oid && k.oid.get() != *oid) continue;
      Printer p(text.data(), text.size());
      const Bytes value{b.data() + item[i].pos.get(), item[i].len.get()};
      if (tree == 0)
        disk::print_fs_item(p, k.oid, k.type, k.off, value);
      else if (tree == 1)
        disk::print_vector_item(p, k.oid, k.type, k.off, value);
      else if (tree == 2)
        disk::print_snapshot_item(p, k.oid, k.type, value);
      else if (tree == 3)
        disk::print_refcount_item(p, k.oid, k.type, value);
      else if (tree == 4)
        disk::print_dead_item(p, k.oid, k.type, k.off, value);
      else
        disk::print_key(p, k);
      std::cout << "  " << p.c_str() << '\n';
    }
  }

  Context &ctx_;
  std::unique_ptr<host::FileDevice> device_;
  disk::Geometry geo_;
};

}  // namespace

void add_dump_commands(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *group = app.add_subcommand("dump", "Show on-disk structures of an image (for debugging)");
  group->require_subcommand(1);

  auto dump = [&ctx](auto f) {
    TextAsJson text(ctx, "lines");
    f(Inspector(ctx));
    text.finish();
  };
  CLI::App *c = group->add_subcommand("super", "The superblock");
  c->add_flag("--backups", o->backups, "and its copies");
  c->callback([dump, o] { dump([&](Inspector i) { i.super(o->backups); }); });
  c = group->add_subcommand("root", "Both root slots and their mirrors");
  c->callback([dump] { dump([](Inspector i) { i.roots(); }); });
  c = group->add_subcommand("groups", "Block group descriptors");
  c->callback([dump] { dump([](Inspector i) { i.groups(); }); });
  c = group->add_subcommand("log", "The intent log: what the next mount recovers");
  c->add_flag("-r,--records", o->items, "and every record of it");
  c->callback([dump, o] { dump([&](Inspector i) { i.log(o->items); }); });
  c = group->add_subcommand("node", "One tree node");
  c->add_option("BLOCK", o->block, "its first block")->required();
  c->add_flag("-i,--items", o->items, "what the items of a leaf say");
  c->callback([dump, o] { dump([&](Inspector i) { i.node(o->block, o->items); }); });
  c = group->add_subcommand("tree", "A whole tree");
  c->add_option("TREE", o->tree, "fs, collections, snapshots, refcounts or dead")->capture_default_str();
  c->add_flag("-i,--items", o->items, "what the items of leaves say");
  auto *oid = c->add_option("--oid", o->oid, "only the items of this object (an inode number, a collection id)");
  c->callback(
      [dump, o, oid] { dump([&](Inspector i) { i.tree(o->tree, o->items, oid->count() ? &o->oid : nullptr); }); });
}

}  // namespace vexfs::vexctl
