/* What a store consists of, in both schemas: all that is copied. A test compares it with them. */
#include "store/copy_side.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEXT(column)                                                                               \
	{                                                                                          \
		.name = (column), .kind = PLANE_COPY_TEXT                                          \
	}
#define NUMBER(column)                                                                             \
	{                                                                                          \
		.name = (column), .kind = PLANE_COPY_NUMBER                                        \
	}
#define FLAG(column)                                                                               \
	{                                                                                          \
		.name = (column), .kind = PLANE_COPY_FLAG                                          \
	}
#define TIME(column)                                                                               \
	{                                                                                          \
		.name = (column), .kind = PLANE_COPY_TIME                                          \
	}
#define OWN(column)                                                                                \
	{                                                                                          \
		.name = (column), .kind = PLANE_COPY_OWN                                           \
	}
/* of another name in SQLite, and what SQLite has no column for */
#define TEXT_AS(column, sqlite)                                                                    \
	{                                                                                          \
		.name = (column), .kind = PLANE_COPY_TEXT, .sqlite_name = (sqlite)                 \
	}
#define ABSENT(column, of, value)                                                                  \
	{                                                                                          \
		.name = (column), .kind = (of), .sqlite_value = (value)                            \
	}

static const struct plane_copy_column controller[] = {
	TEXT("name"),
	FLAG("is_online"),
	TIME("last_heartbeat_at"),
};

static const struct plane_copy_column node[] = {
	NUMBER("id"),
	TEXT("kind"),
	TEXT("cluster"),
	TEXT("name"),
	TEXT("controller"),
	ABSENT("controller_url", PLANE_COPY_TEXT, "NULL"),
	NUMBER("connection_id"),
	TEXT("version"),
	TEXT("git_hash"),
	TEXT("ip"),
	TIME("seen_at"),
	TEXT("backend_ip"),
	NUMBER("first_port"),
	NUMBER("last_port"),
};

static const struct plane_copy_column drone[] = {
	NUMBER("id"),
	ABSENT("cluster", PLANE_COPY_TEXT, "(SELECT n.cluster FROM node n WHERE n.id = drone.id)"),
	TEXT("pool"),
	FLAG("is_ready"),
	FLAG("is_draining"),
	TIME("last_heartbeat_at"),
	NUMBER("last_local_time"), /* of the drone's clock */
	NUMBER("lease_epoch"),
	NUMBER("lease_renewals"),
	FLAG("is_lease_granted"),
	NUMBER("lease_expire_ms"),
	OWN("has_key_leases"), /* needed while a store recovers */
	OWN("is_reconciled"),  /* a store that recovers is not copied */
	TEXT("journal"),
	NUMBER("memory_total_bytes"),
	NUMBER("memory_allocatable_bytes"),
	NUMBER("memory_reserved_bytes"),
	NUMBER("memory_available_bytes"),
	NUMBER("cpu_total_millis"),
	NUMBER("cpu_allocatable_millis"),
	NUMBER("cpu_reserved_millis"),
	NUMBER("load_millis"),
	NUMBER("last_fencing_token"),
	NUMBER("backend_count"),
};

static const struct plane_copy_column backend[] = {
	TEXT("id"),
	TEXT("cluster"),
	NUMBER("drone_id"),
	NUMBER("lease_epoch"),
	TEXT("key_namespace"),
	TEXT("key_name"),
	TEXT("key_tag"),
	NUMBER("status"),
	TEXT("state"),
	TIME("state_at"),
	TIME("created_at"),
	TIME("last_keepalive_at"),
	TIME("lifetime_ends_at"),
	NUMBER("max_idle_ms"),
	TEXT("subdomain"),
	TEXT("static_token"),
	NUMBER("memory_bytes"),
	NUMBER("cpu_millis"),
};

static const struct plane_copy_column backend_key[] = {
	TEXT("namespace"),
	TEXT("name"),
	TEXT("tag"),
	TEXT("backend"),
	NUMBER("drone_id"),
	NUMBER("lease_epoch"),
	TIME("expires_at"),
	NUMBER("fencing_token"),
};

static const struct plane_copy_column backend_state[] = {
	NUMBER("id"),
	TEXT("backend"),
	TEXT("state"),
	TIME("created_at"),
	OWN("origin"),
};

static const struct plane_copy_column action[] = {
	NUMBER("sequence"),
	TEXT("id"),
	TEXT("backend"),
	NUMBER("drone_id"),
	TEXT("kind"),
	TEXT("message"), /* its deadlines are of the drone's clock */
	TIME("acked_at"),
	OWN("origin"),
};

static const struct plane_copy_column token[] = {
	TEXT("token"),
	TEXT("secret_token"),
	TEXT("backend"),
	TEXT_AS("username", "user"),
	TEXT("auth"),
	TIME("expires_at"),
};

static const struct plane_copy_column revocation[] = {
	NUMBER("id"),
	TEXT("backend"),
	TEXT_AS("username", "user"),
	TIME("created_at"),
	OWN("origin"),
};

static const struct plane_copy_column certificate[] = {
	TEXT("cluster"),
	NUMBER("node_id"),
	TIME("lease_ends_at"),
	TEXT("txt_value"),
};

#define TABLE(table) .name = #table, .columns = (table), .count = COUNT(table)

const struct plane_copy_table plane_copy_tables[] = {
	{ TABLE(controller) },
	{ TABLE(node), .is_numbered = true },
	{ TABLE(drone) },
	{ TABLE(backend) },
	{ TABLE(backend_key) },
	{ TABLE(backend_state), .is_numbered = true },
	{ TABLE(action), .is_numbered = true },
	/* those of backends that were forgotten lead nowhere, and SQLite has none */
	{ TABLE(token),
		.postgres_filter = "EXISTS (SELECT 1 FROM backend b WHERE b.id = token.backend)" },
	{ TABLE(revocation), .is_numbered = true },
	{ TABLE(certificate) },
};

const size_t plane_copy_table_count = COUNT(plane_copy_tables);
