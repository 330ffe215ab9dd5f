# SPDX-License-Identifier: GPL-2.0
# What the Makefiles of suites include. A kernel tree has another file of this name
# (tools/testing/selftests/lib.mk), which knows the same variables.
#
# OUTPUT= is where the programs go. They are static, so that they run in any machine.
OUTPUT ?= ../../build/selftests/$(notdir $(CURDIR))

# The suites share what is in these. In a kernel tree each has what it needs in lib.
LIBS = ../lib ../../tools/lib
VPATH += $(LIBS)
KHDR_INCLUDES = -idirafter ../../include/uapi
LOCAL_HDRS += $(wildcard $(addsuffix /*.h,$(LIBS) ../../include/uapi/linux))

CPPFLAGS += $(addprefix -I,$(LIBS))
CFLAGS += -D_GNU_SOURCE= -Werror
LDFLAGS += -static

TEST_GEN_PROGS_EXTENDED := $(addprefix $(OUTPUT)/,$(TEST_GEN_PROGS_EXTENDED))
TEST_GEN_FILES := $(addprefix $(OUTPUT)/,$(TEST_GEN_FILES))

all: $(TEST_GEN_PROGS_EXTENDED) $(TEST_GEN_FILES)

$(OUTPUT)/%: %.c $(LOCAL_HDRS)
	@mkdir -p $(@D)
	$(LINK.c) $(filter-out $(LOCAL_HDRS),$^) $(LDLIBS) -o $@

clean:
	$(RM) $(TEST_GEN_PROGS_EXTENDED) $(TEST_GEN_FILES)

.PHONY: all clean
