// SPDX-License-Identifier: MIT
// vexctl completion bash | zsh | fish: scripts made from the commands themselves, so that they cannot be out of date.
#include <functional>
#include <iostream>

#include "context.h"

namespace vexfs::vexctl {
namespace {

using Visit = std::function<void(const std::string &path, const CLI::App &)>;

void visit_all(const CLI::App &app, const std::string &path, const Visit &visit) {
  visit(path, app);
  for (const CLI::App *sub : app.get_subcommands([](const CLI::App *) { return true; }))
    if (!sub->get_name().empty()) visit_all(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), visit);
}

std::vector<std::string> option_names(const CLI::App &app) {
  std::vector<std::string> names;
  for (const CLI::Option *o : app.get_options()) {
    for (const auto &s : o->get_snames()) names.push_back("-" + s);
    for (const auto &l : o->get_lnames()) names.push_back("--" + l);
  }
  return names;
}

std::string words_of(const CLI::App &app) {
  std::string w;
  for (const CLI::App *sub : app.get_subcommands([](const CLI::App *) { return true; })) w += sub->get_name() + " ";
  for (const auto &n : option_names(app)) w += n + " ";
  if (!w.empty()) w.pop_back();
  return w;
}

void bash(const CLI::App &root) {
  std::cout << "# bash completion of vexctl: source it, or put it into /usr/share/bash-completion/completions/vexctl\n"
               "_vexctl() {\n"
               "  local cur=${COMP_WORDS[COMP_CWORD]} path= word words= i\n"
               "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
               "    word=${COMP_WORDS[i]}\n"
               "    case \"$path $word\" in\n";
  visit_all(root, "", [](const std::string &path, const CLI::App &) {
    if (!path.empty()) {
      const size_t blank = path.rfind(' ');
      const std::string before = blank == std::string::npos ? "" : path.substr(0, blank);
      const std::string last = blank == std::string::npos ? path : path.substr(blank + 1);
      std::cout << "      '" << before << " " << last << "') path='" << path << "' ;;\n";
    }
  });
  std::cout << "    esac\n  done\n  case \"$path\" in\n";
  visit_all(root, "", [](const std::string &path, const CLI::App &app) {
    std::cout << "    '" << path << "') words='" << words_of(app) << "' ;;\n";
  });
  std::cout << "  esac\n"
               "  COMPREPLY=($(compgen -W \"$words --json --image --quiet --help\" -- \"$cur\"))\n"
               "  [[ $cur == -* ]] || COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
               "}\n"
               "complete -o filenames -F _vexctl vexctl\n";
}

void zsh(const CLI::App &root) {
  std::cout << "#compdef vexctl\n"
               "# zsh completion of vexctl: put it as _vexctl into a directory of $fpath\n"
               "_vexctl() {\n"
               "  local path_= word\n"
               "  local -a list\n"
               "  for word in ${words[2,CURRENT-1]}; do\n"
               "    case \"$path_ $word\" in\n";
  visit_all(root, "", [](const std::string &path, const CLI::App &) {
    if (path.empty()) return;
    const size_t blank = path.rfind(' ');
    const std::string before = blank == std::string::npos ? "" : path.substr(0, blank);
    const std::string last = blank == std::string::npos ? path : path.substr(blank + 1);
    std::cout << "      '" << before << " " << last << "') path_='" << path << "' ;;\n";
  });
  std::cout << "    esac\n  done\n  case \"$path_\" in\n";
  visit_all(root, "", [](const std::string &path, const CLI::App &app) {
    std::cout << "    '" << path << "') list=(" << words_of(app) << ") ;;\n";
  });
  std::cout << "  esac\n"
               "  compadd -- $list --json --image --quiet --help\n"
               "  _files\n"
               "}\n"
               "_vexctl \"$@\"\n";
}

std::string quoted(std::string s) {
  for (size_t at = 0; (at = s.find('\'', at)) != std::string::npos; at += 2) s.insert(at, "\\");
  return "'" + s + "'";
}

void fish(const CLI::App &root) {
  std::cout << "# fish completion of vexctl: put it into ~/.config/fish/completions/vexctl.fish\n";
  visit_all(root, "", [](const std::string &path, const CLI::App &app) {
    std::string when;
    std::string all;
    for (const auto &word : split(path, ' '))
      if (!word.empty()) when += (when.empty() ? "" : "; and ") + std::string("__fish_seen_subcommand_from ") + word;
    for (const CLI::App *sub : app.get_subcommands([](const CLI::App *) { return true; })) all += " " + sub->get_name();
    std::string open = when;
    open += "; and not __fish_seen_subcommand_from";
    open += all;
    if (path.empty()) open = "__fish_use_subcommand";
    for (const CLI::App *sub : app.get_subcommands([](const CLI::App *) { return true; })) {
      std::cout << "complete -c vexctl -n " << quoted(open) << " -a " << sub->get_name() << " -d "
                << quoted(sub->get_description()) << "\n";
    }
    for (const CLI::Option *o : app.get_options()) {
      if (o->get_lnames().empty() && o->get_snames().empty()) continue;
      std::cout << "complete -c vexctl";
      if (!when.empty()) std::cout << " -n " << quoted(when);
      for (const auto &s : o->get_snames()) std::cout << " -s " << s;
      for (const auto &l : o->get_lnames()) std::cout << " -l " << l;
      if (o->get_items_expected_max() > 0) std::cout << " -r";
      std::cout << " -d " << quoted(o->get_description()) << "\n";
    }
  });
}

}  // namespace

void add_completion_command(CLI::App &app, Context &ctx) {
  auto shell = std::make_shared<std::string>();
  CLI::App *c = app.add_subcommand("completion", "Print a shell completion script");
  c->add_option("SHELL", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  c->callback([&app, &ctx, shell] {
    TextAsJson text(ctx, "script", true);
    if (*shell == "bash") bash(app);
    if (*shell == "zsh") zsh(app);
    if (*shell == "fish") fish(app);
    text.finish();
  });
}

}  // namespace vexfs::vexctl
