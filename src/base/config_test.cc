#include "base/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace cyllm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Vars = std::map<std::string, std::string>;

// A program with one setting of each type, and its folder for files.
class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() {
    static int count = 0;
    dir_ = std::filesystem::temp_directory_path() /
           ("cyllm_config_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(dir_);
    settings_.Add({.key = "demo.name",
                   .flag = "--name",
                   .env = {"DEMO_NAME", "OLD_NAME"},
                   .help = "A name",
                   .metavar = "NAME"},
                  &name_);
    settings_.Add(
        {.key = "demo.port", .flag = "--port", .env = {"DEMO_PORT"}, .help = "A port", .metavar = "N"},
        &port_, 0, 65535);
    settings_.Add({.key = "demo.timeout", .flag = "--timeout", .env = {"DEMO_TIMEOUT"}, .help = "Seconds"},
                  &timeout_, -1, 1000);
    settings_.Add({.key = "demo.fast", .flag = "--fast", .env = {"DEMO_FAST"}, .help = "Fast"}, &fast_);
    settings_.Add(
        {.key = "demo.peers",
         .flag = "--peer",
         .env = {"DEMO_TCP", {"DEMO_UDS", "unix:"}},
         .help = "Peers",
         .check = {[](const std::string& s) { return s.find(':') != std::string::npos; }, "host:port"}},
        &peers_);
    settings_.Add(
        {.key = "demo.token",
         .env = {"DEMO_TOKEN"},
         .help = "A token",
         .secret = true,
         .check = {[](const std::string& s) { return s.find(' ') == std::string::npos; }, "without blanks"}},
        &token_);
    settings_.Add({.key = "level", .flag = "--level", .help = "Level", .choices = {"low", "high"}}, &level_);
    settings_.ConfigFileFrom({"DEMO_CONFIG"});
    settings_.JsonKeys(
        {{"api_token", "demo.token"}, {"addr", "demo.peers"}, {"timeout_sec", "demo.timeout"}});
    settings_.IgnoreKey("demo.later", "comes in a later release");
    settings_.IgnoreVariable("DEMO_UNUSED", "no code reads it");
    settings_.IgnoreFlag("--serve", false, "it always serves");
    settings_.IgnoreFlag("--queue-size", true, "there is no queue");
    settings_.RefuseVariable("DEMO_TLS", "TLS comes in a later release");
  }
  ~ConfigTest() override { std::filesystem::remove_all(dir_); }

  std::string Write(const std::string& name, const std::string& text) {
    const auto path = dir_ / name;
    std::ofstream(path) << text;
    return path;
  }
  Result<Settings::Action> Load(const std::vector<std::string>& args, const Vars& vars = {}) {
    return settings_.Load(args, [&](const std::string& name) -> std::optional<std::string> {
      const auto it = vars.find(name);
      return it == vars.end() ? std::nullopt : std::optional(it->second);
    });
  }
  std::string ErrorOf(const std::vector<std::string>& args, const Vars& vars = {}) {
    const auto result = Load(args, vars);
    if (result) return "no error";
    EXPECT_EQ(result.error().code, Code::kInvalidArgument);
    return result.error().message;
  }

  std::filesystem::path dir_;
  std::string name_ = "default", token_, level_ = "low";
  int64_t port_ = 8000;
  double timeout_ = 60;
  bool fast_ = false;
  std::vector<std::string> peers_ = {"127.0.0.1:1"};
  Settings settings_{"cy-llm demo", "A program for tests."};
};

TEST_F(ConfigTest, DefaultsStayWhenNothingIsSaid) {
  ASSERT_EQ(Load({}), Settings::Action::kRun);
  EXPECT_EQ(name_, "default");
  EXPECT_EQ(port_, 8000);
  EXPECT_TRUE(settings_.warnings().empty());
}

TEST_F(ConfigTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const std::string file = Write("a.toml", "[demo]\nname = \"file\"\nport = 1\ntimeout = 1\nfast = true\n");
  ASSERT_TRUE(Load({"--config", file, "--name=flag"}, {{"DEMO_NAME", "env"}, {"DEMO_PORT", "2"}}));
  EXPECT_EQ(name_, "flag");
  EXPECT_EQ(port_, 2);
  EXPECT_EQ(timeout_, 1);
  EXPECT_TRUE(fast_);
  EXPECT_EQ(level_, "low");
}

TEST_F(ConfigTest, BlankVariablesAreUnset) {
  ASSERT_TRUE(Load({}, {{"DEMO_NAME", ""},
                        {"OLD_NAME", "old"},
                        {"DEMO_PORT", " \t"},
                        {"DEMO_TLS", ""},
                        {"DEMO_CONFIG", ""},
                        {"DEMO_UNUSED", ""}}));
  EXPECT_EQ(name_, "old");
  EXPECT_EQ(port_, 8000);
  EXPECT_TRUE(settings_.warnings().empty());
}

TEST_F(ConfigTest, EarlierVariableWins) {
  ASSERT_TRUE(
      Load({}, {{"DEMO_NAME", "new"}, {"OLD_NAME", "old"}, {"DEMO_TCP", "a:1, b:2,"}, {"DEMO_UDS", "/x"}}));
  EXPECT_EQ(name_, "new");
  EXPECT_EQ(peers_, (std::vector<std::string>{"a:1", "b:2"}));
}

TEST_F(ConfigTest, PrefixOfAVariableIsPutBeforeEachElement) {
  ASSERT_TRUE(Load({}, {{"DEMO_UDS", "/x.sock,unix:///y.sock"}}));
  EXPECT_EQ(peers_, (std::vector<std::string>{"unix:/x.sock", "unix:///y.sock"}));
}

TEST_F(ConfigTest, RepeatedListFlagsAddUp) {
  ASSERT_TRUE(Load({"--peer", "a:1", "--peer=b:2,c:3"}));
  EXPECT_EQ(peers_, (std::vector<std::string>{"a:1", "b:2", "c:3"}));
}

TEST_F(ConfigTest, FlagsMayHaveNegativeAndNoValues) {
  ASSERT_TRUE(Load({"--timeout", "-1", "--fast"}));
  EXPECT_EQ(timeout_, -1);
  EXPECT_TRUE(fast_);
}

struct BadCase {
  std::vector<std::string> args;
  Vars vars;
  std::vector<std::string> message_parts;
};

TEST_F(ConfigTest, BadFlagsAndVariablesNameThemselvesAndWhatIsAllowed) {
  const std::vector<BadCase> cases = {
      {{"--prot", "1"}, {}, {"unknown flag --prot", "--port", "--config", "--help"}},
      {{"--port"}, {}, {"flag --port", "needs a value", "0 to 65535"}},
      {{"--port", "65536"}, {}, {"flag --port", "from 0 to 65535", "\"65536\""}},
      {{"--port", "1x"}, {}, {"flag --port", "\"1x\""}},
      {{"--port", ""}, {}, {"flag --port", "whole number"}},
      {{"--timeout", "nan"}, {}, {"flag --timeout", "from -1 to 1000"}},
      {{"--timeout", "1e9"}, {}, {"flag --timeout", "from -1 to 1000"}},
      {{"--fast=maybe"}, {}, {"flag --fast", "true or false"}},
      {{"--level", "medium"}, {}, {"flag --level", "one of low, high", "\"medium\""}},
      {{"--peer", "a:1,b"}, {}, {"flag --peer", "host:port"}},
      {{"word"}, {}, {"unexpected word \"word\""}},
      {{}, {{"DEMO_PORT", "-1"}}, {"variable DEMO_PORT", "from 0 to 65535", "\"-1\""}},
      {{}, {{"DEMO_FAST", "perhaps"}}, {"variable DEMO_FAST", "true or false"}},
      {{}, {{"DEMO_TLS", "/cert.pem"}}, {"variable DEMO_TLS", "later release"}},
      {{"--config", "/nonexistent/x.toml"}, {}, {"/nonexistent/x.toml", "No such file"}},
      {{}, {{"DEMO_CONFIG", "/nonexistent/x.json"}}, {"/nonexistent/x.json", "No such file"}},
      {{"--config", "/"}, {}, {"file /", "not a file"}},
  };
  for (const auto& c : cases) {
    const std::string message = ErrorOf(c.args, c.vars);
    for (const auto& part : c.message_parts) EXPECT_THAT(message, HasSubstr(part));
  }
}

TEST_F(ConfigTest, ARefusedValueChangesNothing) {
  ErrorOf({"--port", "70000"});
  EXPECT_EQ(port_, 8000);
}

TEST_F(ConfigTest, SecretsAreNotRepeatedInErrors) {
  const std::string message = ErrorOf({}, {{"DEMO_TOKEN", "se cret"}});
  EXPECT_THAT(message, HasSubstr("variable DEMO_TOKEN: must be without blanks"));
  EXPECT_THAT(message, Not(HasSubstr("cret")));
}

TEST_F(ConfigTest, BadFilesNameFileLineKeyAndWhatIsAllowed) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"[demo]\nprot = 1\n", {"line 2", "key demo.prot", "unknown key", "demo.port", "level"}},
      {"[other]\nx = 1\n", {"key other.x", "unknown key"}},
      {"[demo]\nport = \"80\"\n", {"key demo.port", "whole number from 0 to 65535", "\"80\""}},
      {"[demo]\nport = 1.5\n", {"key demo.port", "whole number"}},
      {"[demo]\nport = 70000\n", {"key demo.port", "65535"}},
      {"[demo]\nname = 1\n", {"key demo.name", "a string"}},
      {"[demo]\npeers = [1]\n", {"key demo.peers", "a list"}},
      {"[demo]\nfast = 1\n", {"key demo.fast", "true or false"}},
      {"demo = 1\n", {"key demo", "unknown key"}},
      {"[demo]\n\"a b\" = 1\n", {"key demo.\"a b\"", "unknown key"}},
      {"[demo\n", {"line 1", "not valid TOML"}},
      {"[demo]\nport = 1\nport = 2\n", {"line 3", "not valid TOML"}},
  };
  for (const auto& [text, parts] : cases) {
    const std::string file = Write("bad.toml", text);
    const std::string message = ErrorOf({"--config", file});
    EXPECT_THAT(message, HasSubstr(file)) << text;
    for (const auto& part : parts) EXPECT_THAT(message, HasSubstr(part)) << text;
  }
}

TEST_F(ConfigTest, JsonFilesOfTheContractAreMapped) {
  const std::string file =
      Write("config.json", R"({"api_token": "t", "addr": "h:1", "timeout_sec": 5, "demo": {"port": 7}})");
  ASSERT_TRUE(Load({}, {{"DEMO_CONFIG", file}}));
  EXPECT_EQ(token_, "t");
  EXPECT_EQ(peers_, std::vector<std::string>{"h:1"});
  EXPECT_EQ(timeout_, 5);
  EXPECT_EQ(port_, 7);
}

TEST_F(ConfigTest, EmptyStringsInJsonFilesAreUnset) {
  ASSERT_TRUE(Load({"--config", Write("config.json", R"({"api_token": "", "addr": ""})")}));
  EXPECT_EQ(token_, "");
  EXPECT_EQ(peers_, std::vector<std::string>{"127.0.0.1:1"});
}

TEST_F(ConfigTest, BadJsonFilesRefuse) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {R"({"api_tokn": "t"})", {"key api_tokn", "unknown key", "api_token", "timeout_sec"}},
      {R"({"api_token": 5})", {"key api_token", "without blanks"}},
      {R"({"api_token": null})", {"key api_token"}},
      {R"({"timeout_sec": "5"})", {"key timeout_sec", "a number"}},
      {"{\"api_token\": \"t\",\n}", {"line 2", "not valid JSON"}},
      {R"({"api_token": "t"} x)", {"not valid JSON"}},
      {R"({"api_token": "t")", {"not valid JSON"}},
      {"", {"not valid JSON"}},
      {"[]", {"JSON object"}},
      {R"({"api_token": "t", "demo": {"token": "u"}})", {"second time"}},
  };
  for (const auto& [text, parts] : cases) {
    const std::string file = Write("bad.json", text);
    const std::string message = ErrorOf({"--config", file});
    EXPECT_THAT(message, HasSubstr(file)) << text;
    for (const auto& part : parts) EXPECT_THAT(message, HasSubstr(part)) << text;
  }
}

TEST_F(ConfigTest, JsonKeysAreUnknownInToml) {
  EXPECT_THAT(ErrorOf({"--config", Write("a.toml", "api_token = \"t\"\n")}), HasSubstr("unknown key"));
}

TEST_F(ConfigTest, TooLongFilesRefuse) {
  const std::string file = Write("long.toml", "#" + std::string(2 << 20, 'x'));
  EXPECT_THAT(ErrorOf({"--config", file}), HasSubstr("longer than"));
}

TEST_F(ConfigTest, KnownButUnusedThingsWarnOnceEach) {
  const std::string file = Write("a.toml", "[demo]\nlater = 1\n");
  ASSERT_TRUE(
      Load({"--config", file, "--serve", "--queue-size", "9", "--port", "5"}, {{"DEMO_UNUSED", "x"}}));
  ASSERT_EQ(settings_.warnings().size(), 4u);
  EXPECT_THAT(settings_.warnings()[0], HasSubstr("--serve has no effect: it always serves"));
  EXPECT_THAT(settings_.warnings()[1], HasSubstr("--queue-size has no effect"));
  EXPECT_THAT(settings_.warnings()[2], HasSubstr("demo.later has no effect"));
  EXPECT_THAT(settings_.warnings()[3], HasSubstr("DEMO_UNUSED has no effect"));
  EXPECT_EQ(port_, 5);
}

TEST_F(ConfigTest, PrintConfigMasksSecretsAndSaysWhereValuesComeFrom) {
  const std::string file = Write("a.toml", "level = \"high\"\n[demo]\nport = 3\n");
  ASSERT_EQ(Load({"--print-config", "--config", file, "--name", "a \"b\""}, {{"DEMO_TOKEN", "hidden"}}),
            Settings::Action::kExitOk);
  EXPECT_THAT(settings_.output(), HasSubstr("name = \"a \\\"b\\\"\"  # flag --name\n"));
  EXPECT_THAT(settings_.output(), HasSubstr("port = 3  # file " + file + ", line 3\n"));
  EXPECT_THAT(settings_.output(), HasSubstr("token = \"***\"  # variable DEMO_TOKEN\n"));
  EXPECT_THAT(settings_.output(), HasSubstr("timeout = 60.0  # default\n"));
  EXPECT_THAT(settings_.output(), Not(HasSubstr("hidden")));
}

TEST_F(ConfigTest, PrintedConfigLoadsAgain) {
  ASSERT_TRUE(
      Load({"--name", "tab\there\\", "--peer", "a:1,b:2", "--timeout", "0.5", "--fast", "--level", "high"}));
  const std::string file = Write("printed.toml", settings_.Print());
  name_ = level_ = "";
  peers_.clear();
  timeout_ = 7;
  fast_ = false;
  level_ = "low";
  ASSERT_TRUE(Load({"--config", file})) << settings_.Print();
  EXPECT_EQ(name_, "tab\there\\");
  EXPECT_EQ(peers_, (std::vector<std::string>{"a:1", "b:2"}));
  EXPECT_EQ(timeout_, 0.5);
  EXPECT_TRUE(fast_);
  EXPECT_EQ(level_, "high");
}

TEST_F(ConfigTest, ChecksRunBeforeCheckConfigSaysOk) {
  settings_.AddCheck([this] { return port_ == 1 ? InvalidArgument("port 1 is taken") : Status::Ok(); });
  EXPECT_EQ(ErrorOf({"--check-config", "--port", "1"}), "port 1 is taken");
  ASSERT_EQ(Load({"--check-config", "--port", "2"}), Settings::Action::kExitOk);
  EXPECT_EQ(settings_.output(), "configuration ok\n");
}

TEST_F(ConfigTest, HelpShowsEveryFlagWithDefaultAndVariables) {
  ASSERT_EQ(Load({"--help", "--port", "x"}), Settings::Action::kExitOk);
  for (const char* part :
       {"Usage: cy-llm demo [options]", "--name NAME", "default 8000", "DEMO_NAME, OLD_NAME",
        "one of low, high", "--config FILE", "DEMO_CONFIG", "demo.token"}) {
    EXPECT_THAT(settings_.output(), HasSubstr(part));
  }
}

TEST(ConfigPositional, IsTakenOnceAndMayBeRequired) {
  const Settings::Env no_env = [](const std::string&) { return std::nullopt; };
  std::string source;
  const auto load = [&](const std::vector<std::string>& args) {
    Settings settings("cy-llm pull", "Pulls.");
    settings.AddPositional("SOURCE", "What to fetch", &source, true);
    return settings.Load(args, no_env);
  };
  EXPECT_TRUE(load({"smollm2"}));
  EXPECT_EQ(source, "smollm2");
  EXPECT_THAT(load({}).error().message, HasSubstr("SOURCE is missing"));
  EXPECT_THAT(load({"a", "b"}).error().message, HasSubstr("unexpected word \"b\""));
  EXPECT_THAT(load({"a", "--config", "x"}).error().message, HasSubstr("unknown flag --config"));
}

}  // namespace
}  // namespace cyllm
